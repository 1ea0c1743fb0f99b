// ioredis against each region of a running mesh.
import assert from 'node:assert/strict'
import Redis from 'ioredis'
import { check, eventually, regions, unique } from './check.mjs'

const connect = ({ host, port }) => new Redis({ host, port, family: 0, maxRetriesPerRequest: 1, lazyConnect: false })

for (const [i, region] of regions.entries()) {
  const other = connect(regions[(i + 1) % regions.length])
  const redis = connect(region)
  const key = (name) => `ioredis:${unique}:${region.region}:${name}`
  const title = (name) => `ioredis, ${region.region}: ${name}`

  await check(title('set and get'), async () => {
    assert.equal(await redis.set(key('s'), 'v'), 'OK')
    assert.equal(await redis.get(key('s')), 'v')
    assert.equal(await redis.get(key('missing')), null)
    await eventually(() => other.get(key('s')), 'v')
  })
  await check(title('binary'), async () => {
    const value = Buffer.from(Array.from({ length: 256 }, (_, n) => n))
    await redis.set(key('b'), value)
    assert.deepEqual(await redis.getBuffer(key('b')), value)
  })
  await check(title('types'), async () => {
    await redis.hset(key('h'), { a: '1', b: '2' })
    assert.deepEqual(await redis.hgetall(key('h')), { a: '1', b: '2' })
    await redis.rpush(key('l'), 'a', 'b', 'c')
    assert.deepEqual(await redis.lrange(key('l'), 0, -1), ['a', 'b', 'c'])
    await redis.zadd(key('z'), 1.5, 'a', 2, 'b')
    assert.deepEqual(await redis.zrange(key('z'), 0, -1, 'WITHSCORES'), ['a', '1.5', 'b', '2'])
    await redis.sadd(key('t'), 'x', 'y')
    assert.deepEqual((await redis.smembers(key('t'))).sort(), ['x', 'y'])
    await assert.rejects(redis.lpush(key('h'), 'x'), /WRONGTYPE/)
  })
  await check(title('pipeline'), async () => {
    const p = redis.pipeline()
    for (let n = 0; n < 100; n++) p.incr(key('n')).get(key('n'))
    const replies = await p.exec()
    assert.deepEqual(replies.map(([err, v]) => { assert.equal(err, null); return String(v) }),
      Array.from({ length: 200 }, (_, n) => String(1 + Math.floor(n / 2))))
  })
  await check(title('multi'), async () => {
    const replies = await redis.multi().set(key('m'), '1').incr(key('m')).get(key('m')).exec()
    assert.deepEqual(replies, [[null, 'OK'], [null, 2], [null, '2']])
  })
  await check(title('watch that fails'), async () => {
    await redis.watch(key('w'))
    await other.set(key('w'), 'other')
    assert.equal(await redis.multi().set(key('w'), 'mine').exec(), null)
    assert.equal(await redis.get(key('w')), 'other')
  })
  await check(title('subscribe'), async () => {
    const sub = redis.duplicate()
    const heard = new Promise((resolve) => sub.once('message', (channel, message) => resolve([channel, message])))
    await sub.subscribe(key('c'))
    await other.publish(key('c'), 'hello')
    assert.deepEqual(await heard, [key('c'), 'hello'])
    await sub.unsubscribe(key('c'))
    assert.equal(await sub.get(key('s')), 'v') // an ordinary connection again
    await sub.quit()
  })
  await check(title('blpop'), async () => {
    const pop = redis.duplicate()
    const popped = pop.blpop(key('q'), 10)
    await other.rpush(key('q'), 'job')
    assert.deepEqual(await popped, [key('q'), 'job'])
    assert.equal(await pop.blpop(key('q'), 0.05), null)
    await pop.quit()
  })
  await check(title('scanStream'), async () => {
    const found = new Set()
    for await (const keys of redis.scanStream({ match: key('*'), count: 100 })) keys.forEach((k) => found.add(k))
    assert.ok(found.has(key('s')) && found.has(key('h')), [...found].join())
  })
  await redis.quit()
  await other.quit()
}
