import json
import sys
from pathlib import Path

import openai

TOOLS = [
    {
        "type": "function",
        "name": "read_file",
        "parameters": {"type": "object", "properties": {"path": {"type": "string"}}},
        "strict": False,
    }
]
items = [{"role": "user", "content": sys.argv[2]}]
while True:
    with client.responses.stream(model=sys.argv[1], input=items, tools=TOOLS) as stream:
        for event in stream:
            if event.type == "response.output_text.delta":
                print(event.delta, end="")
        response = stream.get_final_response()
    calls = [item for item in response.output if item.type == "function_call"]
    if not calls:
        break
    for item in response.output:
        items.append({name: value for name, value in item.to_dict().items() if name != "parsed_arguments"})
    for call in calls:
        found = Path(json.loads(call.arguments)["path"]).read_text()
        items.append({"type": "function_call_output", "call_id": call.call_id, "output": found})
print()
try:
    client.responses.create(model="nope", input="Hi")
except openai.NotFoundError:
    print("refused as it should be")
