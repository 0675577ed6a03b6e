// node run.mjs NETWORK.wasm INPUTS OUTPUTS COUNT BYTES_IN BYTES_OUT: runs the network on each input, in a painted arena.
// Prints the selfcheck's result, then the bytes of the arena up to the last one written.
import { readFileSync, writeFileSync } from "node:fs";

const [wasm, inputs, outputs, ...numbers] = process.argv.slice(2);
const [count, bytesIn, bytesOut] = numbers.map(Number);
const { instance } = await WebAssembly.instantiate(readFileSync(wasm), {});
const net = instance.exports;
const check = net.selfcheck();
console.log(check);
if (check === 0) {
  const x = readFileSync(inputs);
  const y = new Uint8Array(count * bytesOut);
  const bytes = () => new Uint8Array(net.memory.buffer);
  const paints = [0xa5, 0x5a];
  let used = 0;
  for (let i = 0; i < count; ++i) {
    bytes().set(x.subarray(i * bytesIn, (i + 1) * bytesIn), net.input());
    for (const paint of i === 0 ? paints : paints.slice(1)) {
      const arena = bytes().subarray(net.arena(), net.arena() + net.arena_size());
      if (i === 0) {
        arena.fill(paint);
        net.reset?.(); // a network that remembers begins its sequence
      }
      const status = net.run();
      if (status !== 0) throw new Error(`run returned ${status} for input ${i}`);
      if (i === 0) for (let k = arena.length; k > used; --k) if (arena[k - 1] !== paint) used = k;
    }
    y.set(bytes().subarray(net.output(), net.output() + bytesOut), i * bytesOut);
  }
  writeFileSync(outputs, y);
  console.log(used);
}
