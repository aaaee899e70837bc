// Runs the JavaScript example of the README, as it stands there, against the vectors of the Rust tests.

import assert from 'node:assert/strict'
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'

const root = new URL('../../', import.meta.url)
const readme = await readFile(new URL('README.md', root), 'utf8')
const example = readme.match(/```js\n([\s\S]*?)```/)?.[1]
assert(example, 'README.md has a JavaScript example')

const folder = await mkdtemp(join(tmpdir(), 'short-code-'))
try {
  const file = join(folder, 'example.mjs')
  await writeFile(file, example)
  const { shortCode } = await import(pathToFileURL(file))
  const vectors = JSON.parse(await readFile(new URL('tests/fixtures/vectors/short_code.json', root), 'utf8'))
  let checked = 0
  for (const { name, content_hex: content, codes } of vectors.codes) {
    if (content === undefined || content === null) continue
    codes.forEach((code, n) => {
      assert.equal(shortCode(Buffer.from(content, 'hex'), n), code, `${name}, n = ${n}`)
      checked += 1
    })
  }
  assert(checked > 0, 'at least one vector was checked')
  console.log(`${checked} passed, 0 failed`)
} finally {
  await rm(folder, { recursive: true })
}
