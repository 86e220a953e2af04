"""Random models of images: convolutions of every form, batch norms, pools, dropout, residuals between any two images,
images that are constrained to lie split over tp along channels or heights, reshapes, and means."""
import random


class ImageModel:
    """Its text draws from the seed alone. sync: batch norm over all replicas."""
    evaluates = True                # running statistics show

    def __init__(self, seed):
        self.draw = random.Random(seed)
        self.lines, self.images, self.rows = [], [("t.x", (3, 9, 8))], []
        self.count, self.sync = 0, self.draw.random() < 0.5

    def name(self, text):
        name = f"v{self.count}"
        self.count += 1
        self.lines.append(f"  local {name} = {text}")
        return name

    def image(self, text, shape):
        self.images.append((self.name(text), shape))

    def row(self, text, width):
        self.rows.append((self.name(text), width))

    def recent(self):
        return self.draw.choice(self.images[-3:] if self.draw.random() < 0.75 else self.images)

    def window(self, extents, kernel_most=3):
        """(kernel, stride, padding, dilation) as pairs, and the extents that they leave."""
        d, found = self.draw, []
        for extent in extents:
            kernel = d.randint(1, min(kernel_most, extent))
            padding, stride = d.randint(0, kernel // 2), d.choice([1, 1, 2])
            dilation = d.choice([1, 1, 2]) if extent + 2 * padding > 2 * (kernel - 1) else 1
            found.append((kernel, stride, padding, dilation, (extent + 2 * padding - dilation * (kernel - 1) - 1) // stride + 1))
        kernel, stride, padding, dilation, left = ("{ %d, %d }" % pair if i < 4 else pair for i, pair in enumerate(zip(*found)))
        return kernel, stride, padding, dilation, left

    def shard(self):
        return self.draw.choice(['shard = "column", ', 'shard = "row", ', ""])

    def convolution(self):
        x, (c, h, w) = self.recent()
        out = self.draw.choice([2, 3, 4, 5, 6, 8])
        groups = self.draw.choice([g for g in (1, 1, 1, 2, 3, 4) if c % g == 0 and out % g == 0])
        kernel, stride, padding, dilation, left = self.window((h, w))
        bias = self.draw.choice(["true", "true", "false"])
        self.image(f'nn.conv2d("c{self.count}", {x}, {out}, {kernel}, {{ {self.shard()}groups = {groups}, bias = {bias}, stride = {stride}, '
                   f'padding = {padding}, dilation = {dilation} }})', (out, *left))

    def norm(self):
        x, (c, h, w) = self.recent()
        if h * w >= 4:          # with few values it is almost a step function
            shard = self.draw.choice(["true", "false"])
            sync = "true" if self.sync else "false"
            self.image(f'nn.batch_norm2d("n{self.count}", {x}, {{ shard = {shard}, sync = {sync} }})', (c, h, w))

    def unary(self):
        x, shape = self.recent()
        text = self.draw.choice(["nn.relu({})", "nn.silu({})", "nn.tanh({})", "nn.sigmoid({})", "nn.gelu({})", "{} * 0.7", "{} + 0.3",
                                 "nn.dropout({}, 0.3)", "nn.softmax({})"])
        self.image(text.format(x), shape)

    def pool(self):
        x, (c, h, w) = self.recent()
        kernel, stride, padding, dilation, left = self.window((h, w))
        kind = self.draw.choice(["max", "avg", "adaptive"])
        if kind == "adaptive":
            left = self.draw.randint(1, 6), self.draw.randint(1, 6)
            self.image(f"nn.adaptive_avg_pool2d({x}, {{ {left[0]}, {left[1]} }})", (c, *left))
        elif kind == "max":
            self.image(f"nn.max_pool2d({x}, {kernel}, {{ stride = {stride}, padding = {padding}, dilation = {dilation} }})", (c, *left))
        elif dilation == "{ 1, 1 }":
            count = self.draw.choice(["true", "false"])
            self.image(f"nn.avg_pool2d({x}, {kernel}, {{ stride = {stride}, padding = {padding}, count_include_pad = {count} }})", (c, *left))

    def residual(self):
        """A sum or product with any earlier image, which is brought to the same shape."""
        (x, shape), (y, other) = self.recent(), self.draw.choice(self.images)
        if other[0] != shape[0]:
            y = f'nn.conv2d("s{self.count}", {y}, {shape[0]}, 1, {{ {self.shard()}bias = false }})'
        if other[1:] != shape[1:]:
            y = f"nn.adaptive_avg_pool2d({y}, {{ {shape[1]}, {shape[2]} }})"
        self.image(f"{x} {self.draw.choice('++-*')} {y}", shape)

    def vector(self):
        """With a parameter of the last dims."""
        x, shape = self.recent()
        extents = ", ".join(map(str, shape[self.draw.randint(0, 2):]))
        self.image(f'{x} {self.draw.choice("+*")} mp.parameter("p{self.count}", {{ {extents} }}, mp.uniform(0.5, 1.5))', shape)

    def constrain(self):
        x, shape = self.recent()
        self.image(f"mp.constrain({x} * 1.1, {{ tp = {self.draw.choice(['2', '2', '3', chr(34) + 'replicate' + chr(34)])} }})", shape)

    def reshape(self):
        x, (c, h, w) = self.recent()
        shape = self.draw.choice([(h, c, w), (c * h, 1, w), (1, c, h * w), (w, h, c)])
        self.image("mp.reshape({}, {{ {}.shape[1], {}, {}, {} }})".format(x, x, *shape), shape)

    def mean(self):
        x, (c, h, w) = self.recent()
        dims, width = self.draw.choice([("{ 3, 4 }", c), ("{ 2, 3 }", w)])
        self.row(f"mp.mean({x} * {x}, {dims})", width)

    def text(self):
        d = self.draw
        self.convolution()
        steps = [self.convolution] * 4 + [self.norm] * 3 + [self.unary] * 3 + [self.pool, self.residual, self.residual, self.vector,
                                                                              self.constrain, self.reshape, self.mean]
        for _ in range(d.randint(5, 12)):
            d.choice(steps)()
            if d.random() < 0.25:
                self.lines.append("  mp.cut()")
        x, shape = self.images[-1]
        self.row(f"nn.flatten({x})", shape[0] * shape[1] * shape[2])
        terms = []
        for x, _ in self.rows:
            terms.append(self.name(f'nn.linear("h{self.count}", {x}, 10, {{ {self.shard()} }})'))
        logits = self.name(" + ".join(terms))
        loss = f"mp.cross_entropy({logits}, t.label)"
        if d.random() < 0.5:
            other, _ = self.recent()
            loss += f" + 0.1 * mp.mean({other} * {other})" if other != "t.x" else ""
        body = "\n".join(self.lines)
        return f"""local nn = require "nn"
local function forward(t)
{body}
  return {{ loss = {loss}, accuracy = mp.accuracy({logits}, t.label), outputs = {{ logits = {logits}, image = {self.images[-1][0]} }} }}
end
return mp.program {{
  forward = forward, name = "random", data = mp.tensors {{ x = {{ "f32", 3, 9, 8 }}, label = {{ "i32" }} }},
  batch = 24, optimizer = mp.sgd {{ lr = 0.001, momentum = 0.9, weight_decay = 0.01 }},
}}
"""
