"""A model for MLServer that looks at its pictures: bright or dark."""

import base64
import io

import numpy
from mlserver import MLModel
from mlserver.codecs import NumpyCodec
from mlserver.types import InferenceRequest, InferenceResponse
from PIL import Image


class Brightness(MLModel):
    async def load(self) -> bool:
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        given = payload.inputs[0]
        if given.datatype == "BYTES":
            data = given.data.root if hasattr(given.data, "root") else given.data
            encoded = data[0] if isinstance(data, (list, tuple)) else data
            if isinstance(encoded, str):
                encoded = base64.b64decode(encoded)
            if encoded[:2] != b"\xff\xd8":
                encoded = base64.b64decode(encoded)
            pixels = numpy.asarray(Image.open(io.BytesIO(encoded)).convert("L")) / 255.0
        else:
            pixels = NumpyCodec.decode_input(given)
            if given.datatype == "UINT8":
                pixels = pixels / 255.0
        bright = float(numpy.mean(pixels))
        scores = numpy.array([[1.0 - bright, bright]], dtype=numpy.float32)
        return InferenceResponse(
            id=payload.id or "given-by-the-test",
            model_name=self.name,
            model_version=self.version,
            outputs=[NumpyCodec.encode_output("scores", scores)],
        )
