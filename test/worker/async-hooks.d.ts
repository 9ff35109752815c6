/** The part of `node:async_hooks` that the evictable Worker uses; Workers offer it under `nodejs_compat`. */
declare module "node:async_hooks" {
  export class AsyncLocalStorage<Store> {
    getStore(): Store | undefined;
    run<Result>(store: Store, callback: () => Result): Result;
  }
}
