// attention.c: attention on GPUs comes with the next commit.
