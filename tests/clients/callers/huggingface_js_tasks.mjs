// huggingface.js: every task that it has, at a model's URL; then by model alone, with its two constant hosts pointed here.
// Prints what it got as one JSON object.
import { readFileSync } from "node:fs";
import { InferenceClient } from "@huggingface/inference";

const url = process.env.ROUTER_URL;
const key = process.env.HF_TOKEN;
const picture = new Blob([readFileSync(process.env.SEED_PICTURE)], { type: "image/png" });
const sound = new Blob([readFileSync(process.env.SEED_SOUND)], { type: "audio/wav" });
const table = { alcohol: ["9.4", "9.8"], pH: ["3.51", "3.2"] };
const labels = { candidate_labels: ["dog", "cat"] };

const size = async (blob) => [blob.type, (await blob.arrayBuffer()).byteLength > 40];
const calls = {
  "text-classification": (client, model) => client.textClassification({ ...model, inputs: "I like you" }),
  "token-classification": (client, model) => client.tokenClassification({ ...model, inputs: "Clara lives in York" }),
  "fill-mask": (client, model) => client.fillMask({ ...model, inputs: "life is [MASK]." }),
  "question-answering": (client, model) =>
    client.questionAnswering({ ...model, inputs: { question: "What's my name?", context: "My name is Clara." } }),
  "table-question-answering": (client, model) =>
    client.tableQuestionAnswering({ ...model, inputs: { query: "pH?", table } }),
  "zero-shot-classification": (client, model) =>
    client.zeroShotClassification({ ...model, inputs: "a dog", parameters: labels }),
  summarization: (client, model) => client.summarization({ ...model, inputs: "One. Two." }),
  translation: (client, model) => client.translation({ ...model, inputs: "hello" }),
  "feature-extraction": (client, model) => client.featureExtraction({ ...model, inputs: ["one", "two"] }),
  "sentence-similarity": (client, model) =>
    client.sentenceSimilarity({ ...model, inputs: { source_sentence: "one", sentences: ["one", "two"] } }),
  "image-classification": (client, model) => client.imageClassification({ ...model, data: picture }),
  "object-detection": (client, model) => client.objectDetection({ ...model, data: picture }),
  "image-segmentation": (client, model) => client.imageSegmentation({ ...model, inputs: picture }),
  "image-to-text": (client, model) => client.imageToText({ ...model, data: picture }),
  "zero-shot-image-classification": (client, model) =>
    client.zeroShotImageClassification({ ...model, inputs: { image: picture }, parameters: labels }),
  "visual-question-answering": (client, model) =>
    client.visualQuestionAnswering({ ...model, inputs: { question: "What?", image: picture } }),
  "document-question-answering": (client, model) =>
    client.documentQuestionAnswering({ ...model, inputs: { question: "What?", image: picture } }),
  "text-to-image": async (client, model) =>
    size(await client.textToImage({ ...model, inputs: "a cat" }, { outputType: "blob" })),
  "image-to-image": async (client, model) =>
    size(await client.imageToImage({ ...model, inputs: picture, parameters: { prompt: "blue" } })),
  "automatic-speech-recognition": (client, model) => client.automaticSpeechRecognition({ ...model, data: sound }),
  "audio-classification": (client, model) => client.audioClassification({ ...model, data: sound }),
  "audio-to-audio": (client, model) => client.audioToAudio({ ...model, data: sound }),
  "text-to-speech": async (client, model) => size(await client.textToSpeech({ ...model, inputs: "hello" })),
  "tabular-classification": (client, model) => client.tabularClassification({ ...model, inputs: { data: table } }),
  "tabular-regression": (client, model) => client.tabularRegression({ ...model, inputs: { data: table } }),
};

// What cannot be answered is said, and the rest goes on.
async function answers(clientOf, modelOf) {
  const found = {};
  for (const [task, call] of Object.entries(calls)) {
    try {
      found[task] = await call(clientOf(task), modelOf(task));
    } catch (error) {
      found[task] = { failed: `${error.message}` };
    }
  }
  return found;
}

const found = {};
found.endpoint = await answers((task) => new InferenceClient(key).endpoint(`${url}/models/org/${task}`), () => ({}));

const direct = globalThis.fetch;
globalThis.fetch = (to, init) =>
  direct(`${to}`.replace(/^https:\/\/(router\.)?huggingface\.co/, url), init);
const hosted = new InferenceClient(key);
found.hosted = await answers(() => hosted, (task) => ({ model: `org/${task}`, provider: "hf-inference" }));
found.auto = (await hosted.textToImage({ model: "org/text-to-image", inputs: "a cat" }, { outputType: "blob" })).type;
found.chat = (
  await hosted.chatCompletion({ model: "org/chat", messages: [{ role: "user", content: "hello from node" }] })
).choices[0].message.content;
console.log(JSON.stringify(found));
