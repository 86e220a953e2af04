mpgen tests/cli/chunks.lua -D kind=metric -o out
mpgen tests/cli/chunks.lua -D kind=weighted -o out
