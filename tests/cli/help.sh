mpgen --help
