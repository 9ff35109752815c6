/**
 * Node's `node:http` for what a member starts with. An import statement would also load Node's `fetch`
 * and its WebSocket, which `node:http` exports too and a member never uses: a tenth of its start.
 */
export const http = process.getBuiltinModule("node:http");
