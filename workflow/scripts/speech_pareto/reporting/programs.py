"""How other programs run a student: this stands in the cards of the folders written for them."""

SHERPA = """## With sherpa-onnx

`model.int8.onnx` takes the place of `model.onnx` where bytes count. With the command line, for a
`speech.wav` of 16 bits and one channel:

```sh
pip install sherpa-onnx=={sherpa_onnx} sherpa-onnx-bin=={sherpa_onnx}
sherpa-onnx-offline --omnilingual-asr-model=model.onnx --tokens=tokens.txt speech.wav
```

In Python, as in sherpa's other languages and on phones:

```python
import sherpa_onnx, soundfile

recogniser = sherpa_onnx.OfflineRecognizer.from_omnilingual_asr_ctc("model.onnx", "tokens.txt")
stream = recogniser.create_stream()
wave, rate = soundfile.read("speech.wav", dtype="float32")
stream.accept_waveform(rate, wave)
recogniser.decode_stream(stream)
print(stream.result.text)
```
"""

STREAM = """## While somebody speaks

With onnxruntime, chunk by chunk; `speech.wav` has 16 kHz and one channel:

```sh
pip install onnxruntime=={onnxruntime} soundfile
```

```python
import json
import numpy, onnxruntime, soundfile

session = onnxruntime.InferenceSession("model.onnx")
facts = session.get_modelmeta().custom_metadata_map
size, symbols = int(facts["samples"]), json.loads(facts["symbols"])
wave, rate = soundfile.read("speech.wav", dtype="float32")
wave = numpy.pad(wave, (0, -len(wave) % size))
state, last = numpy.zeros((1, int(facts["state_size"])), "float32"), 0
for begin in range(0, len(wave), size):
    inputs = {{"samples": wave[None, begin : begin + size], "state": state}}
    scores, state = session.run(None, inputs)
    for best in scores[0].argmax(-1):
        if best not in (0, last):
            print(symbols[best - 1], end=facts["between"], flush=True)
        last = best
print()
```

The state is all that the model keeps; zeros begin a stream.
"""

SHERPA_STREAM = """## With sherpa-onnx, while somebody speaks

sherpa-onnx feeds 300 ms at a time, at 8 kHz, to which it brings any recording:

```sh
pip install sherpa-onnx=={sherpa_onnx}
```

```python
import numpy, sherpa_onnx, soundfile

recogniser = sherpa_onnx.OnlineRecognizer.from_t_one_ctc("tokens.txt", "model.onnx")
stream = recogniser.create_stream()
wave, rate = soundfile.read("speech.wav", dtype="float32")
stream.accept_waveform(rate, wave)  # or what a microphone gives, piece by piece
stream.accept_waveform(rate, numpy.zeros(6 * rate // 10, "float32"))  # silence ends it
while recogniser.is_ready(stream):
    recogniser.decode_stream(stream)
print(recogniser.get_result(stream))
```
"""

TRANSFORMERS = """## With transformers
{trust}
`speech.wav` has 16 kHz and one channel; with ffmpeg installed `recognise("speech.mp3")` reads any
file.

```sh
pip install torch=={torch} transformers=={transformers} soundfile
```

```python
import soundfile
from transformers import pipeline

recognise = pipeline("automatic-speech-recognition", model="."{argument})
wave, rate = soundfile.read("speech.wav", dtype="float32")
print(recognise({{"raw": wave, "sampling_rate": rate}})["text"])
```
"""
TRUST = """
`modeling_student.py` and the files it imports rebuild the layers that `config.json` states.
"""

TRANSFORMERS_JS = """## With transformers.js

In Node, in this folder, for a `speech.wav` of 16 kHz, 16 bits and one channel:

```sh
npm install @huggingface/transformers@4.3.2
```

```js
import { readFileSync } from "node:fs";
import { env, pipeline } from "@huggingface/transformers";

env.localModelPath = "./";
const recognise = await pipeline("automatic-speech-recognition", ".", { dtype: "fp32" });
const { buffer, byteOffset, length } = readFileSync("speech.wav");
const samples = new Int16Array(buffer, byteOffset + 44, (length - 44) / 2);
console.log((await recognise(Float32Array.from(samples, (x) => x / 32768))).text);
```

`dtype: "q8"` takes the file with matrices of 8 bits. In a browser `localModelPath` is the address
of the folder, and `recognise` takes samples at 16 kHz or the address of a recording.
"""

EXECUTORCH = """## With ExecuTorch

In Python, for a `speech.wav` of 16 kHz and one channel, of up to {seconds} seconds:

```sh
pip install executorch=={executorch} torch=={torch} soundfile
```

```python
import soundfile, torch
from executorch.runtime import Runtime

method = Runtime.get().load_program("model.pte").load_method("forward")
with open("tokens.txt", encoding="utf-8") as lines:
    symbols = [line.rpartition(" ")[0] for line in lines]
wave, rate = soundfile.read("speech.wav", dtype="float32")
(scores,) = method.execute([torch.from_numpy(wave)[None]])
best = torch.unique_consecutive(scores[0].argmax(-1)).tolist()
print("".join(symbols[i] for i in best if i).replace("▁", " ").strip())
```

On phones `model.pte` needs a runtime with XNNPACK and the optimised kernels, as ExecuTorch's own
packages for Android and iOS have them. `forward` takes the samples of one recording, float32
(1, samples) in [-1, 1] at 16 kHz, and returns log-probabilities, float32 (1, frames, symbols). The
best symbols, without repeats and then without the first of `tokens.txt`, are the text.
"""

EXECUTORCH_STREAM = """## With ExecuTorch, while somebody speaks

In Python, chunk by chunk; `speech.wav` has 16 kHz and one channel:

```sh
pip install executorch=={executorch} torch=={torch} soundfile
```

```python
import soundfile, torch
from executorch.runtime import Runtime

method = Runtime.get().load_program("model.pte").load_method("forward")
samples, numbers = (method.metadata.input_tensor_meta(i).sizes()[1] for i in (0, 1))
with open("tokens.txt", encoding="utf-8") as lines:
    symbols = [line.rpartition(" ")[0] for line in lines]
wave, rate = soundfile.read("speech.wav", dtype="float32")
wave = torch.nn.functional.pad(torch.from_numpy(wave), (0, -len(wave) % samples))
state, last = torch.zeros(1, numbers), 0
for chunk in wave.split(samples):
    scores, state = method.execute([chunk[None], state])
    for best in scores[0].argmax(-1).tolist():
        if best not in (0, last):
            print(symbols[best].replace("▁", " "), end="", flush=True)
        last = best
print()
```

On phones `model.pte` needs a runtime with XNNPACK and the optimised kernels, as ExecuTorch's own
packages for Android and iOS have them. `forward` takes a chunk, float32 (1, samples) in [-1, 1] at
16 kHz, and the state, float32 (1, numbers), zeros at first. It returns log-probabilities, float32
(1, frames, symbols), and the next state.
"""

ONNX_ASR = """## With onnx-asr

As a model of the type T-one, which hears 300 ms at a time, at 8 kHz:

```sh
pip install onnx-asr=={onnx_asr} onnxruntime=={onnxruntime}
```

```python
import onnx_asr

recogniser = onnx_asr.load_model("t-one-ctc", ".")
print(recogniser.recognize("speech.wav"))
```

`speech.wav` has one channel. `recogniser.with_timestamps()` tells the time of each symbol, too.
"""
