"""A stand-in for a judge: speaks the chat completions API, and grades additions by how many digits are right.

Any OpenAI-compatible server takes its place: give its address, model and key in the recipe.
"""

import json
import sys

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route


async def completions(request: Request) -> JSONResponse:
    asked = await request.json()
    shown = json.loads(asked["messages"][-1]["content"])
    said, answer = shown["conversation"][-1]["content"].strip(), str(shown["reference_answer"])
    right = sum(ours == theirs for ours, theirs in zip(said[::-1], answer[::-1], strict=False))
    score = 10 if said == answer else 6 * right / len(answer)
    verdict = {"reason": f"{right} of {len(answer)} digits are right", "score": round(score, 1)}
    choice = {"index": 0, "message": {"role": "assistant", "content": json.dumps(verdict)}, "finish_reason": "stop"}
    usage = {"prompt_tokens": 200, "completion_tokens": 20, "total_tokens": 220}
    return JSONResponse({"object": "chat.completion", "choices": [choice], "usage": usage})


if __name__ == "__main__":
    app = Starlette(routes=[Route("/v1/chat/completions", completions, methods=["POST"])])
    uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[1]), log_level="warning")
