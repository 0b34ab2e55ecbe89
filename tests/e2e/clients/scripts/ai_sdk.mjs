import { readFileSync } from "node:fs";
import { generateText, jsonSchema, stepCountIs, streamText, tool } from "ai";

const [model, prompt] = process.argv.slice(2);
const inputSchema = jsonSchema({ type: "object", properties: { path: { type: "string" } }, required: ["path"] });
const read_file = tool({ inputSchema, execute: async ({ path }) => readFileSync(path, "utf8") });
const options = { tools: { read_file }, stopWhen: stepCountIs(3) };
for await (const text of streamText({ model: stile(model), prompt, ...options }).textStream) process.stdout.write(text);
console.log();
await generateText({ model: stile("nope"), prompt, maxRetries: 0 }).catch(
  (error) => error.statusCode === 404 && console.log("refused as it should be"),
);
