// Makes avatars with sharp as its documentation shows it. Takes a line of JSON per picture, {from, to, edge, animated}, and
// answers each with a line: how long it took and what came of it. NODE_PATH names the folder with sharp in it.
const { readFileSync, writeFileSync } = require("node:fs");
const { createInterface } = require("node:readline");
const sharp = require("sharp");

// A picture that comes twice would be answered from the cache, which no upload is.
sharp.cache(false);

async function avatar({ from, to, edge, animated }) {
  const upload = readFileSync(from);
  const started = process.hrtime.bigint();
  const { data, info } = await sharp(upload, { animated, limitInputPixels: 5e8 })
    .autoOrient()
    .resize(edge, edge, { fit: "cover" })
    .webp({ quality: 80, effort: 4 })
    .toBuffer({ resolveWithObject: true });
  const ms = Number(process.hrtime.bigint() - started) / 1e6;
  writeFileSync(to, data);
  return { ms, bytes: data.length, width: info.width, height: info.pageHeight ?? info.height, frames: info.pages ?? 1 };
}

async function main() {
  for await (const line of createInterface({ input: process.stdin })) {
    const answer = await avatar(JSON.parse(line)).catch((error) => ({ error: error.message }));
    process.stdout.write(`${JSON.stringify(answer)}\n`);
  }
}

main();
