"""What folders hold, to compare two of them."""

from safetensors.torch import load_file


def files(folder):
    """Return the bytes of each file in a folder."""
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def distance(first, second):
    """Return the largest difference of two folders' weights, relative to each tensor's largest."""
    far = 0.0
    for file in first.glob("*.safetensors"):
        ours, theirs = load_file(file), load_file(second / file.name)
        assert ours.keys() == theirs.keys()
        for key, tensor in ours.items():
            assert tensor.shape == theirs[key].shape, key
            scale = tensor.abs().max().clamp_min(1e-3)
            far = max(far, ((tensor - theirs[key]).abs().max() / scale).item())
    return far
