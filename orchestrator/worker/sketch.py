"""`sketch`: a picture in, a picture out, by OpenCV filters on the real pixels."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final

from aiohttp import web

from orchestrator.worker.body import BODY_BYTES_MAX
from orchestrator.worker.intake import FORMATS, OPERATIONS, SIDE_DEFAULT, SIDE_MAX, Job, read_job
from orchestrator.worker.pictures import PIXELS_MAX, read_header

THREADS_MAX: Final = 64


@dataclass(frozen=True, slots=True)
class Result:
    """The finished picture. `model_ms` covers decoding, the filter and encoding, not the wait for a thread."""

    data: bytes
    width: int
    height: int
    model_ms: float


class Sketch:
    """Environment: SKETCH_THREADS (pictures worked on at a time, default 1), GPUDECK_WORKER.

    Raises ValueError naming the variable at fault.
    """

    name = "sketch"
    # A filter runs to its end in its thread whatever happens to the client.
    cancels = False

    def __init__(self, environ: Mapping[str, str]) -> None:
        text = environ.get("SKETCH_THREADS", "1")
        if not text.isdecimal() or not 1 <= int(text) <= THREADS_MAX:
            raise ValueError(f"SKETCH_THREADS: give a whole number from 1 to {THREADS_MAX}")
        self.healthy = True
        self._worker = environ.get("GPUDECK_WORKER", "local")
        self._pool = ThreadPoolExecutor(int(text), thread_name_prefix="filter")

    async def load(self) -> str:
        return await asyncio.get_running_loop().run_in_executor(self._pool, _load)

    def describe(self) -> dict[str, object]:
        return {
            "summary": "Turns a picture into a drawing or a painting.",
            "predict": {
                "path": "/predict",
                "operation": OPERATIONS,
                "strength": "0..1",
                "colour": "true, false (pencil)",
                "format": FORMATS,
                "max_side": f"16..{SIDE_MAX}, default {SIDE_DEFAULT}",
                "response": ("image", "json"),
            },
            "limits": {"body_bytes": BODY_BYTES_MAX, "pixels": PIXELS_MAX},
            "worker": self._worker,
        }

    def routes(self) -> list[web.RouteDef]:
        return [web.post("/predict", self._predict)]

    def close(self) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)

    async def _predict(self, request: web.Request) -> web.Response:
        job = await read_job(request)
        header = read_header(job.data)
        loop = asyncio.get_running_loop()
        result = await loop.run_in_executor(self._pool, _work, job, header.format, loop.time)
        headers = {
            "x-model-ms": f"{result.model_ms:.1f}",
            "x-image-size": f"{result.width}x{result.height}",
            "x-operation": job.operation,
        }
        if not job.as_json:
            return web.Response(body=result.data, content_type=f"image/{job.format}", headers=headers)
        document = {
            "image": base64.b64encode(result.data).decode("ascii"),
            "format": job.format,
            "width": result.width,
            "height": result.height,
            "operation": job.operation,
            "strength": job.strength,
            "colour": job.colour,
            "model_ms": round(result.model_ms, 1),
            "worker": self._worker,
        }
        return web.json_response(document, headers=headers)


def _load() -> str:
    from orchestrator.worker import filters

    return filters.warm_up()


def _work(job: Job, form: str, clock: Callable[[], float]) -> Result:
    from orchestrator.worker import filters

    started_s = clock()
    pixels = filters.fit(filters.decode(job.data, form), job.max_side)
    drawn = filters.OPERATIONS[job.operation](pixels, job.strength, job.colour)
    data = filters.encode(drawn, job.format)
    height, width = drawn.shape[:2]
    return Result(data, width, height, (clock() - started_s) * 1000)
