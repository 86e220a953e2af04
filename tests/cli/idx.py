"""Writes IDX files: idx.py FOLDER COUNT ROWS COLUMNS LABEL; all samples have that label."""
import pathlib
import struct
import sys

folder, (count, rows, columns, label) = pathlib.Path(sys.argv[1]), map(int, sys.argv[2:])
folder.mkdir()
for part in ("train", "t10k"):
    (folder / f"{part}-images-idx3-ubyte").write_bytes(struct.pack(">IIII", 0x803, count, rows, columns) + bytes(count * rows * columns))
    (folder / f"{part}-labels-idx1-ubyte").write_bytes(struct.pack(">II", 0x801, count) + bytes([label]) * count)
