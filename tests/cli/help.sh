run mpgen --help
run mpgen -h specs/missing.lua
run mpgen --version
