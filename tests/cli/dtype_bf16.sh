mpgen specs/convnet.lua -o out --dtype bf16
