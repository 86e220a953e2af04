mpgen nowhere.lua -o out
