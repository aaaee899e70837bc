// Runs the examples of docs/tickets.md, as they stand there: what JavaScript, Python and PHP sign, the Rust code
// verifies. Arguments: the local-cloud command. PHP is tried where it is there, and named where it is not.

import assert from 'node:assert/strict'
import { execFileSync, spawnSync } from 'node:child_process'
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'

const [localCloud, python = 'python3'] = process.argv.slice(2)
assert(localCloud, 'usage: tickets.mjs <local-cloud> [python]')
const page = await readFile(new URL('../../docs/tickets.md', import.meta.url), 'utf8')
const example = (language) => {
  const code = page.match(new RegExp('```' + language + '\\n([\\s\\S]*?)```'))?.[1]
  assert(code, `docs/tickets.md has an example in ${language}`)
  return code
}
const rust = (...args) => execFileSync(localCloud, ['ticket', ...args], { encoding: 'utf8' }).trim()
const runs = (command, ...args) => spawnSync(command, args).status === 0

const folder = await mkdtemp(join(tmpdir(), 'tickets-'))
let checked = 0
try {
  const claims = { aud: 'files', sub: 'tempcato/ä "1".png', max_size: 100, owner: 'me/ü', content_type: 'image/*' }
  await writeFile(join(folder, 'claims.json'), JSON.stringify(claims))
  await writeFile(join(folder, 'ticket.mjs'), example('js'))
  await writeFile(
    join(folder, 'ticket.py'),
    `${example('python')}\nimport sys\nprint(ticket(json.load(open(sys.argv[1])), json.load(open(sys.argv[2]))))\n`,
  )
  await writeFile(
    join(folder, 'ticket.php'),
    `<?php\n${example('php')}\n$read = fn ($file) => json_decode(file_get_contents($file), true);\n` +
      'echo ticket($read($argv[1]), $read($argv[2]));\n',
  )
  const { ticket } = await import(pathToFileURL(join(folder, 'ticket.mjs')))

  for (const algorithm of [[], ['--hs256']]) {
    const jwkFile = join(folder, 'key.jwk')
    const jwk = rust('key', '--kid', 'k1', ...algorithm)
    await writeFile(jwkFile, jwk)
    await writeFile(join(folder, 'keys.json'), rust('jwks', jwkFile))
    const verify = (token) =>
      JSON.parse(rust('verify', token, '--keys', join(folder, 'keys.json'), '--bucket', claims.aud, '--key', claims.sub))
    const arguments_ = [jwkFile, join(folder, 'claims.json')]
    const tokens = { JavaScript: ticket(JSON.parse(jwk), claims) }
    if (algorithm.length > 0 || runs(python, '-c', 'import cryptography')) {
      tokens.Python = execFileSync(python, [join(folder, 'ticket.py'), ...arguments_], { encoding: 'utf8' }).trim()
    } else {
      console.log('Python with Ed25519 was not tried: pip install cryptography')
    }
    if (runs('php', '-r', 'exit(extension_loaded("sodium") ? 0 : 1);')) {
      tokens.PHP = execFileSync('php', [join(folder, 'ticket.php'), ...arguments_], { encoding: 'utf8' }).trim()
    } else {
      console.log('PHP was not tried: it is not here, or has no sodium')
    }
    for (const [language, token] of Object.entries(tokens)) {
      const verified = verify(token)
      for (const [name, value] of Object.entries(claims)) assert.equal(verified[name], value, `${language}: ${name}`)
      const forged = token.slice(0, -3) + (token.endsWith('AAA') ? 'BBB' : 'AAA')
      const refused = spawnSync(localCloud, ['ticket', 'verify', forged, '--keys', join(folder, 'keys.json')])
      assert.notEqual(refused.status, 0, `${language}: a forged signature is refused`)
      assert.match(refused.stderr.toString(), /ticket-signature/)
      console.log(`${language} ${algorithm.length > 0 ? 'HS256' : 'EdDSA'}: verified, and refused once forged`)
      checked += 1
    }
  }
  console.log(`${checked} passed, 0 failed`)
} finally {
  await rm(folder, { recursive: true })
}
