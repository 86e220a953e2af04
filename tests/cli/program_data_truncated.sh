# program: specs/mlp.lua --mesh 1
mkdir data
for name in train-images-idx3 train-labels-idx1; do
	gzip -dc $FASHION/$name-ubyte.gz | head -c 5000 >data/$name-ubyte
done
# ---
./program --data data --steps 1
