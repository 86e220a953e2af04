# program: tests/cli/small_images.lua --mesh 1
./program --data $FASHION --steps 1
