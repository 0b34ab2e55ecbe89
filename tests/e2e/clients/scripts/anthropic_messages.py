import sys
from pathlib import Path

import anthropic

schema = {"type": "object", "properties": {"path": {"type": "string"}}}
tools = [{"name": "read_file", "description": "What a file holds", "input_schema": schema}]
messages = [{"role": "user", "content": sys.argv[2]}]
while True:
    with client.messages.stream(model=sys.argv[1], max_tokens=500, messages=messages, tools=tools) as stream:
        for text in stream.text_stream:
            print(text, end="")
        message = stream.get_final_message()
    messages.append({"role": "assistant", "content": [block.to_dict() for block in message.content]})
    calls = [block for block in message.content if block.type == "tool_use"]
    if not calls:
        break
    found = [(call.id, Path(call.input["path"]).read_text()) for call in calls]
    results = [{"type": "tool_result", "tool_use_id": name, "content": text} for name, text in found]
    messages.append({"role": "user", "content": results})
print()
try:
    client.messages.create(model="nope", max_tokens=5, messages=messages[:1])
except anthropic.NotFoundError:
    print("refused as it should be")
