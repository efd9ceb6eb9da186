"""Costs: counted right, timed in pairs, repeatable where no clock is involved."""

import copy
import math
import sys

import pytest
import torch

from speech_pareto.compression import recipes
from speech_pareto.models import architecture, backbone, model_folder, sparsity, surgery
from speech_pareto.profiling import cost, energy

CONDITION = {"audio_seconds": 1, "batch": 1, "threads": 1, "device": "cpu", "precision": "fp32"}


@pytest.fixture(scope="module")
def tiny():
    torch.manual_seed(0)
    return backbone.new(backbone.tiny_config(hidden=48, layers=2, heads=4, ffn=96, pos_conv=16))


def test_parameters_by_part(tiny):
    counted = cost.parameters(tiny)
    assert counted["total"] == counted["stem"] + counted["encoder"]
    assert counted["stem"] == 0
    assert counted["nonzero"] < counted["total"]  # biases begin at zero


def test_macs_are_the_formula(tiny):
    audio = cost.noise(2.0)
    frames, width, layers = (32000 - 560) // 320 + 1, 48, 2
    spectra = 2 * frames
    stem = spectra * 257 * 80 + spectra * round(2.5 * 512 * math.log2(512)) // 2
    inner = 160 * width + layers * (4 * width * width + 2 * width * 96)
    position = (
        (frames + 1) * 16 * width * (width // 4)
    )  # four groups; an even kernel makes one frame too many
    attention = layers * 2 * frames * frames * width
    assert cost.macs(tiny, audio) == stem + frames * inner + position + attention


@pytest.mark.parametrize("kind", ["hubert", "wav2vec2", "wavlm"])
def test_what_is_cut_costs_no_macs(kind):
    config = backbone.tiny_config(
        hidden=48, layers=2, heads=4, ffn=96, pos_conv=16, model_type=kind
    )
    whole, part = backbone.new(config), backbone.new(config)
    for layer in part.encoder.layers:
        surgery.keep_heads(layer, (1,))
        surgery.keep_rows(layer, torch.arange(24))
    audio = cost.noise(1.0)
    frames = (16000 - 560) // 320 + 1
    saved = 2 * frames * 0.75 * (4 * 48 * 48 + 2 * 48 * 96 + 2 * frames * 48)
    gate = 2 * frames * 3 * 12 * 8 if kind == "wavlm" else 0  # three heads' gates of two layers
    assert cost.macs(whole, audio) - cost.macs(part, audio) == saved + gate


def test_a_shared_layer_computes_twice_and_is_stored_once(tiny):
    shared = copy.deepcopy(tiny)
    shared.encoder.layers[1] = shared.encoder.layers[0]
    audio = cost.noise(1.0)  # profilers that sum over modules would count its MACs four times
    assert cost.macs(shared, audio) == cost.macs(tiny, audio)
    layer = sum(p.numel() for p in tiny.encoder.layers[1].parameters())
    assert cost.parameters(tiny)["total"] - cost.parameters(shared)["total"] == layer


def test_zeros_are_multiplied_like_any_number(tiny):
    sparse, audio = copy.deepcopy(tiny), cost.noise(1.0)
    for parameter in sparsity.prunable(sparse).values():
        parameter.data.zero_()
    assert cost.macs(sparse, audio) == cost.macs(tiny, audio)
    counted, dense = cost.parameters(sparse), cost.parameters(tiny)
    assert counted["total"] == dense["total"] and counted["nonzero"] < dense["nonzero"]


def test_batches_cost_the_same_per_second(tiny):
    assert cost.macs(tiny, cost.noise(1.0, 3)) == 3 * cost.macs(tiny, cost.noise(1.0))


def test_memory_repeats_and_holds_the_largest_moment(tiny):
    audio = cost.noise(4.0)
    first = cost.peak_memory(tiny, audio)
    assert first == cost.peak_memory(tiny, audio)
    frames = (64000 - 560) // 320 + 1
    weights = sum(p.numel() for p in tiny.parameters()) * 4
    maps = 4 * frames * frames * 4  # one layer's attention maps
    assert first > weights + 2 * maps
    assert cost.peak_memory(tiny, cost.noise(8.0)) > first


def test_the_race_pairs_each_pass_with_its_own_neighbour(monkeypatch):
    clock = iter(
        [9.0, 9.0, 2.0, 1.0, 5.0, 20.0, 4.0, 2.0]
    )  # warm-up; then the order turns each time
    order = []

    def timed(subject, audio):
        order.append(subject)
        return next(clock)

    monkeypatch.setattr(cost, "_timed", timed)
    result = cost.race("teacher", "student", torch.zeros(1, 16000), 3)
    assert order[2:] == ["teacher", "student", "student", "teacher", "teacher", "student"]
    assert (result["speedup"], result["seconds"], result["teacher_seconds"]) == (2.0, 2.0, 4.0)
    assert (result["speedup_low"], result["speedup_high"]) == (2.0, 3.0)
    assert result["rtf"] == 2.0


def test_half_the_layers_are_faster(tiny):
    torch.manual_seed(0)
    long = backbone.new(backbone.tiny_config(hidden=48, layers=12, heads=4, ffn=96, pos_conv=16))
    result = cost.race(long, tiny, cost.noise(4.0), 5)
    assert result["speedup"] > 1.5


def test_zeros_save_theoretical_macs_alone(tiny):
    config, audio = backbone.describe(tiny), cost.noise(2.0)
    pruned = copy.deepcopy(tiny)
    with torch.no_grad():
        surgery.matrix(pruned.encoder.layers[1], "intermediate_dense").weight[:10] = 0
        surgery.matrix(pruned.encoder.layers[0], "v_proj").bias[:] = 0  # makes no product
    frames, zeros = (32000 - 560) // 320 + 1, cost.zero_weights(pruned)
    assert (cost.zero_weights(tiny), zeros) == ([0, 0], [0, 480])
    planned = cost.planned_macs(config, zeros, 2.0)
    assert planned["total"] == cost.macs(pruned, audio) == cost.macs(tiny, audio)
    assert planned["theoretical_total"] == planned["total"] - 480 * frames
    assert planned["per_second"] == planned["total"] / 2


def test_zeros_of_slow_layers_count_once_for_each_of_their_frames(tiny):
    config = backbone.describe(tiny) | {"compression": {"stem": "log_mel", "time_reduction": 2}}
    planned = cost.planned_macs(config, [3, 7], 1.0)  # 49 frames, 24 in the layers
    assert planned["total"] - planned["theoretical_total"] == 24 * 10


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_bytes_in_either_precision(tiny, tmp_path, dtype):
    backbone.save(tiny, tmp_path / "student", dtype)
    folder = tmp_path / "student"
    found = cost.sizes(backbone.load(folder), folder / model_folder.WEIGHTS)
    same = found["bytes_fp32"] if dtype == torch.float32 else found["bytes_fp16"]
    assert found["bytes"] == same
    assert found["bytes_fp32"] - found["bytes_fp16"] == 2 * cost.parameters(tiny)["total"]


def test_heads_count_beside_the_backbone(tiny, tmp_path):
    from safetensors.torch import save_file

    total = cost.parameters(tiny)["total"]
    assert cost.head_parameters(tiny, tmp_path)["with_heads"] == total
    save_file({"head.weight": torch.ones(5, 48), "head.bias": torch.ones(5)}, tmp_path / cost.HEAD)
    counted = cost.head_parameters(tiny, tmp_path, 1000)
    assert counted == {"task_head": 245, "projections": 1000, "with_heads": total + 1245}


def test_projections_of_a_chain():
    config = architecture.tiny()
    distilled = {"distilhubert": {"ratio": 0.3}}
    heads = 2 * 3 * (192 * 192 + 192)
    assert recipes.projection_parameters([distilled, "ffn_pruning"], config, 0.5) == heads
    assert recipes.projection_parameters([{"distilhubert": {"steps": 0}}], config, 0.5) == 0
    assert recipes.projection_parameters(["low_rank"], config, 0.5) == 0


def test_a_condition_says_what_it_measured(tiny):
    threads = torch.get_num_threads()
    asked = {**CONDITION, "batch": 2, "threads": "all", "repeats": 2}
    found = cost.under(tiny, tiny, asked, cores=2)
    assert found["name"] == "1s_batch2_threadsall_cpu_fp32"
    assert (found["threads"], found["batch"], found["device"]) == (2, 2, "cpu")
    assert found["rtf"] == pytest.approx(found["seconds"] / 2)
    assert found["peak_memory_bytes"] > cost.peak_memory(tiny, cost.noise(1.0))
    assert torch.get_num_threads() == threads


def test_bf16_computes_in_bf16(tiny):
    seen = []
    handle = tiny.encoder.layers[0].feed_forward.intermediate_dense.register_forward_hook(
        lambda module, inputs, output: seen.append(output.dtype)
    )
    cost.under(tiny, tiny, {**CONDITION, "precision": "bf16", "repeats": 1}, cores=1)
    assert set(seen) == {torch.bfloat16}
    cost.under(tiny, tiny, {**CONDITION, "repeats": 1}, cores=1)
    assert seen[-1] == torch.float32
    handle.remove()


def test_what_cannot_be_measured_has_a_reason(tiny, monkeypatch):
    found = cost.under(tiny, tiny, {**CONDITION, "threads": 3}, cores=2)
    assert found["reason"] == "3 threads were asked, the job has 2"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    found = cost.under(tiny, tiny, {**CONDITION, "device": "cuda"}, cores=2)
    assert found == {"name": "1s_batch1_threads1_cuda_fp32", "reason": "there is no GPU"}

    def full(*_):
        raise torch.OutOfMemoryError

    monkeypatch.setattr(cost, "race", full)
    assert cost.under(tiny, tiny, CONDITION, cores=1)["reason"] == "out of memory"


def powercap(folder, counter, name="package-0", turn=1000):
    """Write a counter of energy as Linux shows it."""
    zone = folder / "intel-rapl:0"
    (zone / "intel-rapl:0:0").mkdir(parents=True, exist_ok=True)  # the cores, part of the package
    (zone / "name").write_text(f"{name}\n")
    (zone / "max_energy_range_uj").write_text(f"{turn - 1}\n")
    (zone / "energy_uj").write_text(f"{counter}\n")


def test_energy_is_what_the_counter_says(tmp_path, monkeypatch):
    monkeypatch.setattr(energy, "POWERCAP", tmp_path)
    now = {"counter": 0}
    powercap(tmp_path, 0)

    def run():
        now["counter"] = (now["counter"] + 300) % 1000  # µJ; the counter begins anew at 1000
        powercap(tmp_path, now["counter"])
        return 0.5

    found = energy.energy(torch.device("cpu"), {"student": run, "teacher": run})
    assert found == {"energy_source": "RAPL", "student": 300e-6, "teacher": 300e-6}


def test_without_a_counter_there_is_no_energy(tmp_path, monkeypatch, tiny):
    monkeypatch.setattr(energy, "POWERCAP", tmp_path)
    found = cost.under(tiny, tiny, CONDITION, cores=1)
    assert not any("energy" in key for key in found)
    powercap(tmp_path, 5, name="psys")  # the whole board
    assert energy.meter(torch.device("cpu")) is None
    powercap(tmp_path, "broken")
    assert energy.meter(torch.device("cpu")) is None


def test_energy_of_a_gpu(monkeypatch):
    class Library:
        readings = iter([1000, 1000, 4000])  # mJ; the first only tries
        nvmlInit = staticmethod(lambda: None)
        nvmlDeviceGetHandleByUUID = staticmethod(lambda uuid: uuid)

        def nvmlDeviceGetTotalEnergyConsumption(handle):
            assert handle == "GPU-1234"
            return next(Library.readings)

    properties = type("Properties", (), {"uuid": "1234"})
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: properties)
    monkeypatch.setitem(sys.modules, "pynvml", None)
    assert energy.meter(torch.device("cuda")) is None
    monkeypatch.setitem(sys.modules, "pynvml", Library)
    found = energy.energy(torch.device("cuda"), {"student": lambda: 0.4})
    assert found == {"energy_source": "NVML", "student": 1.0}
