import sys
from pathlib import Path

import openai
from langchain_core.messages import HumanMessage, ToolMessage
from langchain_core.tools import tool


@tool
def read_file(path: str) -> str:
    """What a file holds."""
    return Path(path).read_text()


messages = [HumanMessage(sys.argv[2])]
reading = model.bind_tools([read_file])
while True:
    said = None
    for chunk in reading.stream(messages):
        said = chunk if said is None else said + chunk
    messages.append(said)
    if not said.tool_calls:
        break
    for call in said.tool_calls:
        messages.append(ToolMessage(read_file.invoke(call["args"]), tool_call_id=call["id"]))
print(said.text)
try:
    ChatOpenAI(model="nope", base_url=model.openai_api_base, api_key=model.openai_api_key).invoke("Hi")
except openai.NotFoundError:
    print("refused as it should be")
