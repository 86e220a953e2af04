mpgen specs/sharded_linear.lua -D layer=fourth -o out
