// The same work as the avatar function's in Node with sharp: what a user would write instead. For measure.py.
const { S3Client, GetObjectCommand, HeadObjectCommand, PutObjectCommand } = require('@aws-sdk/client-s3')
const { createHash } = require('node:crypto')
const sharp = require('sharp')

const s3 = new S3Client({ forcePathStyle: true })
const base = `http://${process.env.AWS_LAMBDA_RUNTIME_API}/2018-06-01/runtime`

async function avatar({ s3: { bucket, object } }) {
  const Key = `${createHash('md5').update(object.eTag).digest('hex').slice(0, 8)}.webp`
  const Bucket = process.env.AVATAR_BUCKET
  try {
    await s3.send(new HeadObjectCommand({ Bucket, Key }))
    return { status: 'unchanged' }
  } catch (error) {
    if (error.$metadata?.httpStatusCode !== 404) throw error
  }
  const upload = await s3.send(new GetObjectCommand({ Bucket: bucket.name, Key: object.key }))
  const Body = await sharp(await upload.Body.transformToByteArray(), { animated: true })
    .rotate()
    .resize(512, 512, { fit: 'cover', withoutEnlargement: true })
    .webp({ quality: 80, effort: 4 })
    .toBuffer()
  await s3.send(new PutObjectCommand({ Bucket, Key, Body, ContentType: 'image/webp' }))
  return { status: 'stored' }
}

async function main() {
  for (;;) {
    const next = await fetch(`${base}/invocation/next`)
    const id = next.headers.get('lambda-runtime-aws-request-id')
    const event = await next.json()
    try {
      const outcomes = []
      for (const record of event.Records) outcomes.push(await avatar(record))
      await fetch(`${base}/invocation/${id}/response`, { method: 'POST', body: JSON.stringify({ outcomes }) })
    } catch (error) {
      await fetch(`${base}/invocation/${id}/error`, { method: 'POST', body: JSON.stringify({ errorMessage: String(error) }) })
    }
  }
}

main()
