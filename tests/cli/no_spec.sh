mpgen -o out
