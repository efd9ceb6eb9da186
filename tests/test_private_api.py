"""Private names of other packages: all are there, and do what they are used for."""

import copy
from pathlib import Path

import torch
from torch import nn

from speech_pareto.runtime import private_api


def test_small_integers_are_multiplied_exactly():
    left = torch.randint(-127, 128, (20, 64), dtype=torch.int8)
    right = torch.randint(-127, 128, (64, 8), dtype=torch.int8)
    product = private_api.integer_product(left, right)
    assert product.dtype == torch.int32 and torch.equal(product, left.int() @ right.int())


def test_counters_see_products_and_transforms():
    seen = []

    class Watch(private_api.TorchDispatchMode):
        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            seen.append(function.overloadpacket)
            return function(*args, **(kwargs or {}))

    with Watch():
        torch.fft.rfft(torch.ones(8))
        private_api.integer_product(*(torch.ones(32, 32, dtype=torch.int8) for _ in "ab"))
    assert seen[-1] is private_api.INTEGER_PRODUCT and private_api.REAL_FFT in seen


def test_views_share_a_storage_and_empty_tensors_do_not():
    whole, *empty = torch.ones(4), torch.ones(0), torch.ones(0)
    keys = [private_api.storage_key(x.untyped_storage()) for x in (whole, whole[1:], *empty)]
    assert keys[0] == keys[1] and len(set(keys)) == 3


def test_trees_are_walked():
    tree = {"a": [1, (2,)], "b": 3}
    assert private_api.tree_leaves(tree) == [1, 2, 3]
    assert private_api.tree_map(str, tree) == {"a": ["1", ("2",)], "b": "3"}


def test_a_cast_ends_and_the_next_precision_is_free():
    from accelerate import Accelerator

    model = nn.Linear(4, 4)
    for precision, dtype in (("bf16", torch.float32), ("no", torch.float32)):
        private_api.forget_precision()
        accelerator = Accelerator(mixed_precision=precision, cpu=True)
        with private_api.cast_ends(model):
            cast = accelerator.prepare_model(model, evaluation_mode=True)
            assert cast(torch.ones(4)).dtype == dtype
    assert "forward" not in vars(model)
    twin = copy.deepcopy(model)
    nn.init.zeros_(twin.weight), nn.init.zeros_(twin.bias)
    assert not twin(torch.ones(4)).any() and model(torch.ones(4)).any()


def test_the_processor_says_whether_it_has_bf16():
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    flags = next(line for line in lines if line.startswith("flags"))
    assert private_api.has_cpu_bf16() == bool({"avx512_bf16", "amx_tile"} & set(flags.split()))
