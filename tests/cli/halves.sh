# In bf16, of a weight that has a copy only the lower half is stored beside it; a table that stages of a pipeline send each other is whole. Inference has copies alone.
tiny="specs/gpt2.lua -D layers=2 -D heads=2 -D width=16 -D context=16 -D vocab=64 --dtype bf16 --batch 2"
parameters() { sed -n '/^\/\/ parameters/,/^$/p' out/memory.h | sed 's/.*inline \([^ ]*\) \*\([^(]*\).*\/\/ /\1 \2: /'; rm -r out; }
mpgen -q $tiny --mesh pp=2 -o out && parameters
mpgen -q $tiny --mode infer -o out && parameters
