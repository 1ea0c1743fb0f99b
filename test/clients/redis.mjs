// The npm client `redis` against each region of a running mesh, speaking RESP2 and RESP3.
import assert from 'node:assert/strict'
import { createClient, WatchError } from 'redis'
import { check, eventually, regions, unique } from './check.mjs'

async function connect({ host, port }, RESP) {
  const client = createClient({ RESP, name: 'test', socket: { host, port, reconnectStrategy: false } })
  client.on('error', (err) => { console.log(`FAIL connection: ${err.stack}`); process.exit(1) })
  return client.connect()
}

for (const RESP of [2, 3]) {
  for (const [i, region] of regions.entries()) {
    const redis = await connect(region, RESP)
    const other = await connect(regions[(i + 1) % regions.length], RESP)
    const key = (name) => `redis:${unique}:${RESP}:${region.region}:${name}`
    const title = (name) => `redis RESP${RESP}, ${region.region}: ${name}`

    await check(title('set and get'), async () => {
      assert.equal(await redis.set(key('s'), 'v'), 'OK')
      assert.equal(await redis.get(key('s')), 'v')
      assert.equal(await redis.get(key('missing')), null)
      assert.equal(await redis.clientGetName(), 'test')
      await eventually(() => other.get(key('s')), 'v')
    })
    await check(title('types'), async () => {
      await redis.hSet(key('h'), { a: '1', b: '2' })
      assert.deepEqual({ ...(await redis.hGetAll(key('h'))) }, { a: '1', b: '2' })
      await redis.rPush(key('l'), ['a', 'b', 'c'])
      assert.deepEqual(await redis.lRange(key('l'), 0, -1), ['a', 'b', 'c'])
      await redis.zAdd(key('z'), [{ score: 1.5, value: 'a' }, { score: Infinity, value: 'b' }])
      assert.deepEqual((await redis.zRangeWithScores(key('z'), 0, -1)).map(({ score, value }) => [score, value]), [[1.5, 'a'], [Infinity, 'b']])
      assert.equal(await redis.zScore(key('z'), 'a'), 1.5)
      await redis.sAdd(key('t'), ['x', 'y'])
      assert.deepEqual([...(await redis.sMembers(key('t')))].sort(), ['x', 'y'])
      await assert.rejects(redis.lPush(key('h'), 'x'), /WRONGTYPE/)
    })
    await check(title('pipeline'), async () => {
      // Commands of one tick are sent together.
      const replies = await Promise.all(Array.from({ length: 100 }, () => [redis.incr(key('n')), redis.get(key('n'))]).flat())
      assert.deepEqual(replies.map(String), Array.from({ length: 200 }, (_, n) => String(1 + Math.floor(n / 2))))
    })
    await check(title('multi'), async () => {
      assert.deepEqual(await redis.multi().set(key('m'), '1').incr(key('m')).get(key('m')).exec(), ['OK', 2, '2'])
    })
    await check(title('watch that fails'), async () => {
      const own = await connect(region, RESP)
      await own.watch(key('w'))
      await other.set(key('w'), 'other')
      await assert.rejects(own.multi().set(key('w'), 'mine').exec(), WatchError)
      assert.equal(await own.get(key('w')), 'other')
      await own.close()
    })
    await check(title('subscribe'), async () => {
      const sub = await connect(region, RESP)
      let resolve
      const heard = new Promise((r) => { resolve = r })
      await sub.subscribe(key('c'), (message, channel) => resolve([channel, message]))
      await other.publish(key('c'), 'hello')
      assert.deepEqual(await heard, [key('c'), 'hello'])
      await sub.unsubscribe(key('c'))
      assert.equal(String(await sub.get(key('s'))), 'v') // an ordinary connection again
      await sub.close()
    })
    await check(title('blpop'), async () => {
      const pop = await connect(region, RESP)
      const popped = pop.blPop(key('q'), 10)
      await other.rPush(key('q'), 'job')
      const { key: from, element } = await popped
      assert.deepEqual([from, element], [key('q'), 'job'])
      assert.equal(await pop.blPop(key('q'), 0.05), null)
      await pop.close()
    })
    await redis.close()
    await other.close()
  }
}
