// What the client tests share: the regions to connect to, and one line per check.
import assert from 'node:assert/strict'

// REGIONS is a JSON array of {region, host, port}; the first one holds the primary.
export const regions = JSON.parse(process.env.REGIONS ?? 'null')
if (!Array.isArray(regions) || regions.length === 0) {
  console.error('REGIONS is not set: run this through `go test ./test/e2e`')
  process.exit(2)
}

// Keys of one run never meet those of another.
export const unique = `${process.pid}-${Date.now()}`

export async function check(name, body) {
  const begin = performance.now()
  let timer
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error('no answer within 20 s')), 20_000)
  })
  try {
    await Promise.race([body(), late])
    console.log(`ok   ${name} (${Math.round(performance.now() - begin)} ms)`)
  } catch (err) {
    console.log(`FAIL ${name}: ${err.stack}`)
    process.exit(1)
  } finally {
    clearTimeout(timer)
  }
}

// A replica answers a moment later than the region that wrote.
export async function eventually(read, want) {
  for (const deadline = performance.now() + 5_000; ;) {
    const got = await read()
    try {
      assert.deepEqual(got, want)
      return
    } catch (err) {
      if (performance.now() > deadline) throw err
    }
    await new Promise((resolve) => setTimeout(resolve, 10))
  }
}
