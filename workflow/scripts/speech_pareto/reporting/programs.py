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
