"""The MLP's accuracy on Fashion-MNIST (long run only): 87 % on one device, and within half a point of that on others."""
from lib import specs
from lib.harness import FASHION, Case, check

EPOCHS, LEAST, APART = 7, 0.87, 0.005
SPEC = next(spec for spec in specs.SPECS if spec.name == "mlp")
MESHES = [(1, 1, 2), (1, 2, 1), (2, 1, 1), (2, 2, 2)]


def accuracy(mesh):
    program = specs.program(SPEC, mesh, 4, "f32", "-D", "momentum=0.9", "-D", "schedule=linear")
    steps = EPOCHS * 60000 // specs.BATCH
    return program.train_once("accuracy", steps, "--data", FASHION, "--eval", FASHION).evaluations[-1]["eval_accuracy"]


def reaches(mesh):
    reached = accuracy(mesh)
    print(f"@note mlp on {specs.mesh_text(mesh)}: test accuracy {100 * reached:.2f} % after {EPOCHS} epochs")
    check(reached >= LEAST, f"{reached} < {LEAST}")
    apart = abs(reached - accuracy((1, 1, 1)))
    check(apart <= APART, f"{reached} is {apart:.4f} from what one device reaches")


def cases(long):
    return [Case(specs.mesh_text(mesh), reaches, mesh, heavy=True) for mesh in [(1, 1, 1), *MESHES]] if long else []
