import { readFileSync } from "node:fs";

const [model, prompt] = process.argv.slice(2);
const parameters = { type: "object", properties: { path: { type: "string" } } };
const tools = [{ type: "function", function: { name: "read_file", parameters } }];
const messages = [{ role: "user", content: prompt }];
for (;;) {
  const stream = client.chat.completions.stream({ model, messages, tools });
  stream.on("content", (text) => process.stdout.write(text));
  const { message } = (await stream.finalChatCompletion()).choices[0];
  messages.push(message);
  if (!message.tool_calls?.length) break;
  for (const call of message.tool_calls) {
    const { path } = JSON.parse(call.function.arguments);
    messages.push({ role: "tool", tool_call_id: call.id, content: readFileSync(path, "utf8") });
  }
}
console.log();
await client.chat.completions
  .create({ model: "nope", messages })
  .catch((error) => error instanceof OpenAI.NotFoundError && console.log("refused as it should be"));
