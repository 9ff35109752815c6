/** POST /txn: if, do, else, at one revision. */
import type { Exchange } from "./exchange.ts";
import { resultJson, transactionOf } from "./json-txn.ts";
import { Params, readJson } from "./params.ts";
import { storeOver } from "./upstream.ts";

export async function commitTxn({ request, upstream, parameters }: Exchange): Promise<Response> {
  const params = new Params(request.url, parameters);
  const transaction = transactionOf(await readJson(request), params.encoding);
  const { timeoutMilliseconds } = params;
  const result = await storeOver(upstream).txn(transaction, { timeoutMilliseconds });
  const { succeeded, revision } = result;
  const results = result.results.map((each) => resultJson(each, params.encoding));
  return Response.json(
    { succeeded, revision, results },
    { headers: { "cache-control": "no-store", "x-quorate-revision": `${revision}` } },
  );
}
