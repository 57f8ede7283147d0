// huggingface.js and the openai package for Node, as their users write them. Prints what they got as one JSON object.
import { InferenceClient } from "@huggingface/inference";
import OpenAI from "openai";

const url = process.env.ROUTER_URL;
const key = process.env.ROUTER_KEY;
const messages = [{ role: "user", content: "hello from node" }];
const found = {};

const client = new InferenceClient(key, { endpointUrl: url });
const answered = await client.chatCompletion({ model: "sandbox/echo", messages });
found.chat = answered.choices[0].message.content;
found.streamed = "";
for await (const chunk of client.chatCompletionStream({ model: "sandbox/echo", messages })) {
  found.streamed += chunk.choices[0]?.delta?.content ?? "";
}
const endpoint = new InferenceClient(key).endpoint(`${url}/models/sandbox/echo`);
found.generated = (await endpoint.textGeneration({ inputs: "one two three" })).generated_text;
found.tokens = "";
for await (const event of endpoint.textGenerationStream({ inputs: "one two three", parameters: { max_new_tokens: 8 } })) {
  found.tokens += event.choices[0].text; // below a model's path it asks OpenAI's completions
  found.model = event.model;
}
try {
  await new InferenceClient("hf_wrong", { endpointUrl: url }).chatCompletion({ model: "sandbox/echo", messages });
  found.refused = "";
} catch (error) {
  found.refused = `${error.message}`;
}

const openai = new OpenAI({ baseURL: `${url}/v1`, apiKey: key, maxRetries: 0 });
found.openai = (await openai.chat.completions.create({ model: "sandbox/echo", messages })).choices[0].message.content;
found.openaiStreamed = "";
for await (const chunk of await openai.chat.completions.create({ model: "sandbox/echo", messages, stream: true })) {
  found.openaiStreamed += chunk.choices[0]?.delta?.content ?? "";
}
found.vectors = (await openai.embeddings.create({ model: "sandbox/echo", input: ["a", "b"] })).data.length;
const wav = new Uint8Array(44 + 16000);
wav.set(new TextEncoder().encode("RIFF"), 0);
const file = new File([wav], "speech.wav", { type: "audio/wav" });
found.transcribed = (await openai.audio.transcriptions.create({ model: "sandbox/echo", file })).text;
try {
  await new OpenAI({ baseURL: `${url}/v1`, apiKey: "sk-wrong", maxRetries: 0 }).models.list();
  found.openaiRefused = "";
} catch (error) {
  found.openaiRefused = error.constructor.name;
}
console.log(JSON.stringify(found));
