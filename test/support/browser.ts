/**
 * Debian's Chromium, headless, driven over the DevTools protocol: pages that are opened, and code
 * that runs in them. Nothing is downloaded; profile and process end with `stop`.
 */
import { WebSocket } from "ws";
import { Child } from "./child.ts";
import { makeTempDir, removeTempDir } from "./temp-dir.ts";

const ANSWER_MILLISECONDS = 60_000;

interface Reply {
  readonly id?: number;
  readonly result?: Readonly<Record<string, unknown>>;
  readonly error?: { readonly message: string };
}

interface Evaluated {
  readonly result: { readonly value?: unknown };
  readonly exceptionDetails?: {
    readonly text: string;
    readonly exception?: { readonly description?: string };
  };
}

export class Browser {
  readonly #child: Child;
  readonly #socket: WebSocket;
  readonly #profile: string;
  readonly #waiting = new Map<number, (reply: Reply) => void>();
  #number = 0;

  private constructor(child: Child, socket: WebSocket, profile: string) {
    this.#child = child;
    this.#socket = socket;
    this.#profile = profile;
    socket.on("message", (data: Buffer) => {
      const reply = JSON.parse(data.toString()) as Reply;
      if (reply.id !== undefined) this.#waiting.get(reply.id)?.(reply);
    });
  }

  static async start(): Promise<Browser> {
    const profile = makeTempDir("browser");
    const child = await Child.start({
      command: "chromium",
      args: [
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-dev-shm-usage",
        "--disable-background-networking",
        "--no-first-run",
        "--remote-debugging-port=0",
        `--user-data-dir=${profile}`,
        "about:blank",
      ],
      readyText: "DevTools listening on ws://",
    });
    const url = /DevTools listening on (ws:\S+)/.exec(child.log)?.[1];
    if (url === undefined) throw new Error(`Chromium names no address:\n${child.log}`);
    const socket = new WebSocket(url);
    await new Promise((resolve, reject) => {
      socket.once("open", resolve);
      socket.once("error", reject);
    });
    return new Browser(child, socket, profile);
  }

  /**
   * Opens a page; resolves once it has set `globalThis.loaded`. What a page runs before its
   * navigation is through is lost with its first, blank document: so that comes first.
   */
  async open(url: string): Promise<Page> {
    const { targetId } = await this.send("Target.createTarget", { url: "about:blank" });
    const { sessionId } = await this.send("Target.attachToTarget", { targetId, flatten: true });
    const ids = { targetId: String(targetId), sessionId: String(sessionId) };
    await this.send("Page.navigate", { url }, ids.sessionId);
    const page = new Page(this, ids);
    await page.run(`new Promise((resolve) => {
      const look = () => globalThis.loaded ? resolve() : setTimeout(look, 10);
      look();
    })`);
    return page;
  }

  async stop(): Promise<void> {
    this.#socket.close();
    await this.#child.stop();
    removeTempDir(this.#profile);
  }

  send(
    method: string,
    params: Readonly<Record<string, unknown>>,
    sessionId?: string,
  ): Promise<Readonly<Record<string, unknown>>> {
    const id = ++this.#number;
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => {
        this.#waiting.delete(id);
        reject(new Error(`Chromium did not answer ${method} in time`));
      }, ANSWER_MILLISECONDS);
      this.#waiting.set(id, ({ result, error }) => {
        clearTimeout(timer);
        this.#waiting.delete(id);
        if (error === undefined) resolve(result ?? {});
        else reject(new Error(`${method}: ${error.message}`));
      });
      this.#socket.send(JSON.stringify({ id, method, params, sessionId }));
    });
  }
}

export class Page {
  readonly #browser: Browser;
  readonly #ids: { readonly targetId: string; readonly sessionId: string };

  constructor(browser: Browser, ids: { targetId: string; sessionId: string }) {
    this.#browser = browser;
    this.#ids = ids;
  }

  /** The value of an expression, awaited if it is a promise; rejects with what it throws. */
  async run<Value>(expression: string): Promise<Value> {
    const params = { expression, awaitPromise: true, returnByValue: true };
    const reply = await this.#browser.send("Runtime.evaluate", params, this.#ids.sessionId);
    const { result, exceptionDetails } = reply as unknown as Evaluated;
    if (exceptionDetails !== undefined) {
      throw new Error(exceptionDetails.exception?.description ?? exceptionDetails.text);
    }
    return result.value as Value;
  }

  /** Gone without a word, as when a tab crashes or a laptop is shut. */
  async close(): Promise<void> {
    await this.#browser.send("Target.closeTarget", { targetId: this.#ids.targetId });
  }
}
