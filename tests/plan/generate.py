"""Random specs: chains of blocks with residuals that skip stages, a weight that distant blocks share, several losses, logits that
are a sum of parts, and stretches of equal blocks, some with another one among them."""
import random

HEAD = '-- A random spec: tests/plan/generate.py, seed {seed}.\nlocal nn = require "nn"\n\nlocal function forward(t)\n'
LABELS = 5


class Blocks:
    """Writes the blocks; names holds what is there to be added: (Lua name, width); parts, the terms of the early logits."""

    def __init__(self, chance):
        self.chance, self.lines, self.names, self.parts, self.shared = chance, [], [("t.x", 16)], [], None

    def write(self, line):
        self.lines.append("  " + line)

    def layer(self, name, operand, width):
        shard = self.chance.choice(["", ', { shard = "column" }', ', { shard = "row" }', ""])
        return f'nn.linear("{name}", {operand}, {width}{shard})'

    def residual(self, width):
        """A term of the same width from anywhere before, or nothing."""
        fitting = [name for name, w in self.names if w == width]
        return self.chance.choice(["", "", f" + {self.chance.choice(fitting)}"]) if fitting else ""

    def shared_block(self, number, operand):
        if self.shared is None:
            self.write(f"local shared, h{number}")
            self.write(f'h{number} = mp.block("block{number}", function()')
            self.write('  shared = mp.parameter("weight", { 16, 16 }, mp.normal(0, 0.2))')
            self.write(f"  return nn.relu(mp.linear({operand}, shared))")
            self.write("end)")
            self.shared = f"block{number}"
        else:
            self.write("mp.cut()")
            self.write(f"local h{number} = nn.gelu(mp.linear({operand}, shared)){self.residual(16)}")

    def block(self, number):
        operand, width = self.names[-1]
        if width == 16 and self.chance.random() < 0.3:
            self.shared_block(number, operand)
            self.names.append((f"h{number}", 16))
            return
        wide = self.chance.choice([16, 16, 16, 12])
        activation = self.chance.choice(["nn.relu", "nn.gelu", "nn.softmax", ""])
        if number > 1 and self.chance.random() < 0.3:
            self.write("mp.cut()")
        text = f"{activation}({self.layer(f'b{number}', operand, wide)})"
        self.write(f"local h{number} = {text}{self.residual(wide)}")
        self.names.append((f"h{number}", wide))

    def part(self, width):
        """A term of the early logits, here: the others may be made in other stages."""
        name = f"early{len(self.parts)}"
        self.write(f'local {name} = nn.linear("{name}", {self.chance.choice(self.names[1:])[0]}, {width})')
        self.parts.append(name)

    def pair(self, width):
        """A function from k and an operand to an expression: what is the same in equal blocks. Block k may be wider."""
        inner, shards = self.chance.choice([6, 16]), self.chance.choice([("", ""), (', { shard = "column" }', ', { shard = "row" }')])
        activation, drops = self.chance.choice(["nn.relu", "nn.gelu", "nn.softmax"]), self.chance.random() < 0.3

        def text(operand, wider):
            up = f'{activation}(nn.linear("up", {operand}, {inner + wider}{shards[0]}))'
            return f'nn.linear("down", {f"nn.dropout({up}, 0.2)" if drops else up}, {width}{shards[1]})'
        return text

    def equal_blocks(self, number):
        """Some blocks that differ in nothing, or in every second; what each adds is of its own or of other layers."""
        first, width = self.names[-1]
        count, period = self.chance.randint(2, 6), self.chance.choice([1, 1, 1, 2])
        pairs, odd = [self.pair(width) for _ in range(period)], self.chance.choice([None, None, self.chance.randrange(count)])
        adds, shared = self.chance.choice(["", "own", "own", "before", "first"]), self.chance.random() < 0.2
        before, operand = first, first
        if shared:
            self.write(f"local shared{number}")
        for k in range(count):
            name, added = f"h{number}_{k}", {"": "", "own": f" + {operand}", "before": f" + {before}", "first": f" + {first}"}[adds]
            self.write(f'local {name} = mp.block("e{number}.{k}", function()')
            if shared:
                self.write(f'  shared{number} = shared{number} or mp.parameter("weight", {{ {width}, {width} }}, mp.normal(0, 0.2))')
                added = f" + mp.linear({operand}, shared{number})" + added
            self.write(f"  return {pairs[k % period](operand, 4 if k == odd else 0)}{added}")
            self.write("end)")
            self.names.append((name, width))
            before, operand = operand, name


def spec(seed):
    """(text, blocks at least): the spec of a seed. Its first layer is split by columns, so that every tp works."""
    chance = random.Random(seed)
    blocks, count = Blocks(chance), chance.randint(1, 8)
    blocks.write('local h1 = nn.relu(nn.linear("b1", t.x, 16, { shard = "column" }))')
    blocks.names.append(("h1", 16))
    repeats = {chance.randint(2, count + 1) for _ in range(chance.choice([0, 0, 1, 1, 2]))}
    early = chance.random() < 0.4
    for number in range(2, count + 1):
        blocks.block(number)
        if number in repeats:
            blocks.equal_blocks(number)
        if early and chance.random() < 0.3:
            blocks.part(LABELS)
    alone = early and chance.random() < 0.5 # the early logits are the only ones
    if early:
        if alone or not blocks.parts:
            blocks.part(LABELS)
        blocks.write(f"local early = {' + '.join(blocks.parts)}")
    if not alone:
        blocks.write(f'local y = nn.linear("last", {blocks.names[-1][0]}, 4)')
        blocks.write("local d = y - t.y")
    losses = ["mp.mean(d * d)"] * (not alone) + ["mp.cross_entropy(early, t.kind)"] * early
    chance.shuffle(losses)
    more = " accuracy = mp.accuracy(early, t.kind)," if early else ""
    blocks.write(f"return {{ loss = {{ {', '.join(losses)} }},{more} outputs = {{ y = {'early' if alone else 'y'} }} }}")
    momentum = chance.choice(["", ", momentum = 0.9"])
    data = ['x = { "f32", 16 }'] + ['y = { "f32", 4 }'] * (not alone) + ['kind = { "i32" }'] * early
    tail = (f'end\n\nreturn mp.program {{\n  forward = forward,\n  data = mp.tensors {{ {", ".join(data)} }},\n'
            f"  batch = 64, optimizer = mp.sgd {{ lr = 0.05{momentum} }},\n}}\n")
    return HEAD.format(seed=seed) + "\n".join(blocks.lines) + "\n" + tail, count
