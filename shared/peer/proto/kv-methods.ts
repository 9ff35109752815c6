/** The methods of etcdserverpb.KV. */
import { KV, type RangeRequest } from "../../api/gen/etcdserverpb/rpc_pb.js";
import type { KeyValue } from "../../mvcc/types.ts";
import type { CallContext, KvService, RangeAnswer } from "../services.ts";
import { decodePutRequest, decodeRangeRequest } from "./decode.ts";
import { decodeTxnRequest } from "./decode-txn.ts";
import { encodePutResponse, encodeRangeResponse } from "./encode.ts";
import { encodeDeleteRangeResponse, encodeTxnResponse } from "./encode-txn.ts";
import { streaming, unary, type AnswerSink, type ProtoMethod } from "./method.ts";
import { pullStream } from "./pull-stream.ts";
import { headerMessage, keyValueMessage, opResultMessage, rangeMessage } from "./replies.ts";
import {
  clampToSafe,
  deleteRangeOpOf,
  isSerializableTxn,
  putOpOf,
  rangeOpOf,
  txnOpOf,
} from "./requests.ts";

export function kvMethods(kv: KvService): Readonly<Record<string, ProtoMethod>> {
  return {
    Range: unary(
      KV.method.range,
      (request, call) => kv.range(rangeOpOf(request), { serializable: request.serializable }, call),
      {
        decode: decodeRangeRequest,
        encode: encodeRangeResponse,
        message: (answer) => rangeMessage(headerMessage(answer.header), answer),
      },
    ),
    RangeStream: streaming(
      "serverStream",
      KV.method.rangeStream,
      (sink: AnswerSink<Chunk>, call) =>
        pullStream(sink, (request: RangeRequest) => rangeStream(kv, request, call)),
      {
        message: ({ kvs, last }) => ({
          rangeResponse:
            last === undefined
              ? { kvs: kvs.map(keyValueMessage) }
              : rangeMessage(headerMessage(last.header), { ...last, kvs }),
        }),
      },
    ),
    Put: unary(KV.method.put, (request, call) => kv.put(putOpOf(request), call), {
      decode: decodePutRequest,
      encode: encodePutResponse,
      message: ({ header, previous }) => ({
        header: headerMessage(header),
        ...(previous === undefined ? {} : { prevKv: keyValueMessage(previous) }),
      }),
    }),
    DeleteRange: unary(
      KV.method.deleteRange,
      (request, call) => kv.deleteRange(deleteRangeOpOf(request), call),
      {
        encode: encodeDeleteRangeResponse,
        message: ({ header, deleted, previous }) => ({
          header: headerMessage(header),
          deleted: BigInt(deleted),
          prevKvs: previous.map(keyValueMessage),
        }),
      },
    ),
    Txn: unary(
      KV.method.txn,
      (request, call) =>
        kv.txn(txnOpOf(request), { serializable: isSerializableTxn(request) }, call),
      {
        decode: decodeTxnRequest,
        encode: encodeTxnResponse,
        message: ({ header, succeeded, results }) => ({
          header: headerMessage(header),
          succeeded,
          responses: results.map(opResultMessage),
        }),
      },
    ),
    Compact: unary(
      KV.method.compact,
      ({ revision, physical }, call) =>
        kv.compact({ revision: clampToSafe(revision), physical }, call),
      { message: ({ header }) => ({ header: headerMessage(header) }) },
    ),
  };
}

interface Chunk {
  readonly kvs: readonly KeyValue[];
  readonly last: RangeAnswer | undefined;
}

function rangeStream(
  kv: KvService,
  request: RangeRequest,
  call: CallContext,
): AsyncIterable<Chunk> {
  return kv.rangeStream(rangeOpOf(request), { serializable: request.serializable }, call);
}
