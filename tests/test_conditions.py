"""Conditions: what is done to a recording, the same whatever stands beside it, and scores there."""

import numpy as np
import pytest
import soundfile
import torch

import evaluate
import evaluate_condition
from helpers.backbones import with_task_head
from helpers.results import SCORED
from speech_pareto.data import condition
from speech_pareto.data.audio import SAMPLE_RATE
from speech_pareto.data.conditions import reverberation
from speech_pareto.data.corpus import Utterance, read
from speech_pareto.data.heard import heard
from speech_pareto.data.loudness import speech_power
from speech_pareto.models import backbone as model
from speech_pareto.runtime import result
from speech_pareto.study import config, in_conditions, rehearsal

SMALL = {"hidden": 48, "layers": 1, "heads": 4, "ffn": 64, "pos_conv": 16}


def spoken(waves, speakers=None, split="test"):
    """Return utterances of a corpus with these samples (int16), by these speakers."""
    audio, found, offset = np.concatenate(waves), [], 0
    for i, wave in enumerate(waves):
        speaker = speakers[i] if speakers else ""
        about = [f"u{i}", "", "", "", speaker, "en", split, offset, len(wave)]
        found.append(Utterance(*about, corpus="c", audio=audio))
        offset += len(wave)
    return found


def tone(hertz, seconds=1.0):
    """Return a sine (samples,) in int16."""
    times = np.arange(round(seconds * SAMPLE_RATE)) / SAMPLE_RATE
    return np.int16(8000 * np.sin(2 * np.pi * hertz * times))


def strongest(wave):
    """Return the frequency, in Hz, at which a waveform has most power."""
    return np.abs(np.fft.rfft(wave)).argmax() * SAMPLE_RATE / len(wave)


def late(wave, source):
    """Return by how many samples a waveform comes after its source, by cross-correlation."""
    size = 2 * len(source)
    product = np.fft.rfft(wave, size) * np.fft.rfft(source, size).conj()
    lag = int(np.fft.irfft(product).argmax())
    return lag if lag < len(source) else lag - size


@pytest.fixture(scope="module")
def english(prompts_en):
    """Return some real recordings of the test split."""
    return [u for u in read(prompts_en) if u.split == "test"][:12]


@pytest.mark.parametrize("name", condition.READY)
def test_a_recording_is_changed_alike_wherever_it_stands(english, name):
    steps = condition.READY[name]
    first = {one.id: one.wave() for one in heard(english, steps)}
    again = {one.id: one.wave() for one in heard(english[::-1], steps)[::2]}
    assert all(np.array_equal(first[key], wave) for key, wave in again.items())
    for one in heard(english, steps):
        wave, source = first[one.id], one.source.wave()
        assert wave.dtype == np.float32 and len(wave) == one.samples
        assert not np.array_equal(wave, source)
        assert (one.text, one.phones, one.id) == (one.source.text, one.source.phones, one.source.id)


def test_noise_is_at_its_ratio_to_speech_without_pauses(english):
    source = english[0].wave()
    pause = np.zeros(3 * SAMPLE_RATE, np.int16)
    padded = spoken([np.concatenate([np.int16(source * 32768), pause])])
    for snr in (20, 0):
        (one,) = heard(english[:1], [{"noise": "white", "snr": snr}])
        noise = one.wave().astype(float) - source
        assert 10 * np.log10(speech_power(source) / np.mean(noise**2)) == pytest.approx(
            snr, abs=0.01
        )
        (one,) = heard(padded, [{"noise": "white", "snr": snr}])
        more = one.wave().astype(float) - one.source.wave()
        assert np.mean(more**2) == pytest.approx(np.mean(noise**2), rel=0.05)


def test_a_recording_has_one_noise_at_all_ratios(english):
    quiet, loud = (
        heard(english, [{"noise": "babble", "snr": snr}])[3].wave() - english[3].wave()
        for snr in (20, 10)
    )
    assert np.allclose(quiet * 10**0.5, loud, atol=1e-5)
    other = heard(english, [{"noise": "babble", "snr": 10}])[4].wave() - english[4].wave()
    size = min(len(loud), len(other))
    assert abs(np.corrcoef(loud[:size], other[:size])[0, 1]) < 0.2


def test_babble_is_of_others_of_the_split():
    voices = {"a": (300, 350), "b": (900, 950), "c": (2000, 2050)}
    pairs = [(speaker, hertz) for speaker, own in voices.items() for hertz in own]
    data = spoken([tone(hertz) for _, hertz in pairs], [speaker for speaker, _ in pairs])
    data += [Utterance(**{**vars(u), "split": "valid"}) for u in spoken([tone(3000)], ["d"])]
    for one, (speaker, _) in zip(heard(data, [{"noise": "babble", "snr": 0}]), pairs, strict=False):
        added = one.wave() - one.source.wave()
        power = np.abs(np.fft.rfft(added)) ** 2
        share = {h: power[h - 5 : h + 6].sum() / power.sum() for _, h in [*pairs, ("d", 3000)]}
        others = [h for name, h in pairs if name != speaker]
        assert all(share[h] == pytest.approx(0.25, abs=0.02) for h in others)
        assert sum(share[h] for h in others) > 0.99
    alone = heard(data[:2], [{"noise": "babble", "snr": 0, "voices": 1}])  # one speaker in all
    assert strongest(alone[0].wave() - alone[0].source.wave()) == 350
    with pytest.raises(ValueError, match="needs more than one recording of valid"):
        heard(data, [{"noise": "babble", "snr": 0}])[-1].wave()


def test_noise_of_a_folder_is_read_at_any_rate(tmp_path, english):
    wave = tone(1000)[::2] / 32768
    soundfile.write(tmp_path / "hum.wav", wave, SAMPLE_RATE // 2)
    (tmp_path / ".DS_Store").write_text("a file that its owner does not see")
    steps = [{"noise": str(tmp_path), "snr": 5}]
    assert condition.files(steps) == [str(tmp_path)]
    for one in heard(english, steps):
        assert strongest(one.wave() - one.source.wave()) == pytest.approx(1000, abs=2)
    (tmp_path / "notes.txt").write_text("no sound")
    with pytest.raises(ValueError, match=r"notes.txt: neither libsndfile nor FFmpeg can read it"):
        [one.wave() for one in heard(english, steps)]


def test_a_room_keeps_time_loudness_and_length(english):
    room = reverberation.Setting(reverberation=[5, 4, 4], rt60=0.4, distance=1.2)
    for place in range(2):
        response, direct = reverberation.impulse_response(room, place)
        assert np.abs(response).argmax() == direct
        assert np.square(response[:direct]).sum() < 0.1 * response[direct] ** 2
        left = 10 * np.log10(np.square(response)[::-1].cumsum()[::-1] / np.square(response).sum())
        decay = (np.argmax(left < -25) - np.argmax(left < -5)) / SAMPLE_RATE
        assert 3 * decay == pytest.approx(0.4, rel=0.35)  # 20 dB of the 60
    one = heard(english, [{"reverberation": [5, 4, 4], "rt60": 0.4}])[0]
    assert speech_power(one.wave()) == pytest.approx(speech_power(one.source.wave()), rel=1e-4)
    click = np.zeros(SAMPLE_RATE, np.int16)
    click[5000] = 20_000
    (one,) = heard(spoken([click]), [{"reverberation": [5, 4, 4], "rt60": 0.4}])
    assert np.abs(one.wave()).argmax() == 5000


@pytest.mark.parametrize(
    ("settings", "most", "least"),
    [
        ({"codec": "narrow_band"}, 0, 15),
        ({"codec": "g722"}, 0, 30),
        ({"codec": "opus", "bit_rate": 12000}, 1, 5),
        ({"codec": "opus", "bit_rate": 64000}, 1, 10),
    ],
)
def test_a_codec_keeps_time_and_length(english, settings, most, least):
    for one in heard(english, [settings])[:4]:
        wave, source = one.wave(), one.source.wave()
        assert len(wave) == len(source) and abs(late(wave, source)) <= most
        best = [np.roll(wave, -shift)[10:-10] for shift in (-1, 0, 1)]
        error = min(np.mean((x - source[10:-10]) ** 2) for x in best)
        assert 10 * np.log10(np.mean(source**2) / error) > least


def test_a_narrow_band_ends_at_four_kilohertz():
    (one,) = heard(spoken([tone(1000) // 2 + tone(6000) // 2]), [{"codec": "narrow_band"}])
    power = np.abs(np.fft.rfft(one.wave())) ** 2
    assert power[5990:6011].sum() < 1e-4 * power[990:1011].sum()


def test_speed_moves_length_and_pitch():
    (one,) = heard(spoken([tone(1000, 2)]), [{"speed": 1.25}])
    assert one.samples == 25_600 and strongest(one.wave()) == pytest.approx(1250, abs=1)


def test_changes_come_one_after_the_other(english):
    steps = [{"speed": 2}, {"noise": "white", "snr": 10}, {"codec": "g722"}]
    one, first = (heard(english, some)[0] for some in (steps, steps[:1]))
    assert len(one.wave()) == one.samples == len(first.wave())
    error = np.mean((one.wave() - first.wave()) ** 2)
    assert 10 * np.log10(speech_power(first.wave()) / error) == pytest.approx(10, abs=0.5)


@pytest.mark.slow
def test_a_condition_without_effect_scores_as_without_it(prompts_en, tmp_path):
    torch.manual_seed(0)
    made = model.new(model.tiny_config(**SMALL))
    task = with_task_head(made, tmp_path / "tuned", "finetune", "characters", list("abcdefgh"))
    task |= {"languages": ["en"], "metric": "cer", "precision": "fp32"}
    plain, same, noisy = (tmp_path / name for name in ("plain", "same", "noisy"))
    evaluate.main(task, tmp_path / "tuned", [prompts_en], SCORED, f"{plain}.json", f"{plain}.tsv")
    for out, steps in ((same, [{"speed": 1}]), (noisy, [{"noise": "white", "snr": 0}])):
        named = SCORED | {"condition": out.name}
        files = f"{out}.json", f"{out}.tsv"
        evaluate_condition.main(task, steps, tmp_path / "tuned", [prompts_en], named, *files)
    expected, found, other = (result.read(f"{x}.json") for x in (plain, same, noisy))
    assert found["run"]["condition"] == "same" and found["metric"] == expected["metric"]
    assert found["metrics"] == expected["metrics"]
    assert found["valid_metrics"] == expected["valid_metrics"]
    assert same.with_suffix(".tsv").read_text() == plain.with_suffix(".tsv").read_text()
    assert other["metrics"] != expected["metrics"]


def test_a_hole_stays_a_hole(tmp_path, prompts_en):
    result.write_status(tmp_path / "tuned", "infeasible", "too few heads", 0.25)
    named, files = SCORED | {"condition": "x"}, (tmp_path / "m.json", tmp_path / "m.tsv")
    evaluate_condition.main({}, [{"speed": 2}], tmp_path / "tuned", [prompts_en], named, *files)
    assert result.read(files[0])["status"] == "infeasible"
    assert len(files[1].read_text().splitlines()) == 1


def test_ready_conditions_are_written_out(study):
    own = {7: {"noise": "babble", "snr": 5}, "line": [{"speed": 1.1}, {"codec": "g722"}]}
    asked = ["opus-12k", *({name: steps} for name, steps in own.items())]
    study["tasks"]["phones"]["conditions"] = asked
    resolved = config.resolve(study)
    found = condition.of_task(resolved["tasks"]["phones"])
    assert found == {
        "opus-12k": [{"codec": "opus", "bit_rate": 12000}],
        "7": [own[7]],  # wildcards are texts
        "line": own["line"],
    }
    assert all(condition.changes(steps) for steps in [*found.values(), *condition.READY.values()])
    assert condition.sources(found["line"]) == [
        f"speech_pareto/data/conditions/{name}.py" for name in ("codec", "speed")
    ]
    asked = study | {"tasks": resolved["tasks"]}
    assert config.resolve(asked)["tasks"] == resolved["tasks"]
    assert {name for _, name in in_conditions.scored(resolved)} == set(found)


def test_conditions_bear_on_nothing_else(study):
    plain = config.resolve(study)
    assert not in_conditions.scored(plain)
    study["tasks"]["phones"]["conditions"] = ["fast"]
    asked = config.resolve(study)
    assert "conditions" not in plain["tasks"]["phones"]
    kind = "evaluate/tiny/phones"
    assert rehearsal.settings_of(asked, kind) == rehearsal.settings_of(plain, kind)
    job = "evaluate_condition/tiny/thin/0.5/1/phones/fast"
    assert rehearsal.kind_of(asked, job) == kind
