// attention_f32.cu: attention on GPUs comes with the next commit.
