/**
 * One side's TLS: the certificate that this member shows, whom it trusts, and who is let in. Files
 * are looked at again every second, so that certificates are renewed by replacing them; connections
 * that exist keep theirs. A file that can't be read any more is told, and the last good one stays.
 */
import { readFileSync, statSync } from "node:fs";
import {
  checkServerIdentity,
  createSecureContext,
  type ConnectionOptions,
  type PeerCertificate,
  type TLSSocket,
  type TlsOptions,
} from "node:tls";
import type { Host } from "../../shared/peer/host.ts";
import { certificateRefusal, isAllowed, NOT_ALLOWED } from "./certificate-checks.ts";
import { hasCertificate, type TlsSettings } from "./tls-settings.ts";

/** What is read from files. */
interface Material {
  readonly cert: Buffer | undefined;
  readonly key: Buffer | undefined;
  readonly clientCert: Buffer | undefined;
  readonly clientKey: Buffer | undefined;
  readonly ca: Buffer | undefined;
}

export interface TlsIdentityOptions {
  /** Where a certificate is kept that is made at start. */
  readonly autoFolder: string;
  /** Names and addresses for it. */
  readonly hosts: readonly string[];
  /** Milliseconds since 1970. */
  readonly now: number;
  readonly report: Host["report"];
}

const LOOK_MILLISECONDS = 1000;

export class TlsIdentity {
  readonly #settings: TlsSettings;
  readonly #report: Host["report"];
  #material: Material;
  #stamp: string;
  readonly #listeners: ((options: TlsOptions) => void)[] = [];
  readonly #timer: NodeJS.Timeout;

  /** Reads the files, or makes a certificate. Throws a text that names the flag and the file. */
  static async load(settings: TlsSettings, options: TlsIdentityOptions): Promise<TlsIdentity> {
    if (!settings.auto) return new TlsIdentity(settings, options.report);
    const { autoFolder: folder, hosts, now } = options;
    const { validityYears } = settings;
    // The library behind it is large, and needed for this alone.
    const { ensureSelfSigned } = await import("./self-signed.ts");
    const files = await ensureSelfSigned({ folder, hosts, validityYears, now });
    return new TlsIdentity({ ...settings, ...files }, options.report);
  }

  private constructor(settings: TlsSettings, report: Host["report"]) {
    this.#settings = settings;
    this.#report = report;
    this.#stamp = stampOf(settings);
    this.#material = readMaterial(settings);
    createSecureContext(this.serverOptions);
    this.#timer = setInterval(() => this.#look(), LOOK_MILLISECONDS);
    this.#timer.unref();
  }

  /** Whether there is a certificate to serve with: without one this side can only dial. */
  get canServe(): boolean {
    return hasCertificate(this.#settings);
  }

  /** Whether callers show who they are. */
  get knowsCallers(): boolean {
    return this.#settings.clientCertAuth || this.#settings.trustedCaFile !== undefined;
  }

  /** For a server's socket. Those who show no certificate where one is needed never get through. */
  get serverOptions(): TlsOptions {
    const { cert, key, ca } = this.#material;
    const { ciphers, minVersion, maxVersion } = this.#settings;
    return {
      cert,
      key,
      minVersion,
      maxVersion,
      ...(ca === undefined ? {} : { ca }),
      ...(ciphers === undefined ? {} : { ciphers }),
      requestCert: this.knowsCallers,
      // `admit` judges, so that it can tell why.
      rejectUnauthorized: false,
    };
  }

  /** For dialling another member, as of now. */
  dialOptions(): ConnectionOptions {
    const { cert, key, clientCert, clientKey, ca } = this.#material;
    const { auto, ciphers, minVersion, maxVersion } = this.#settings;
    return {
      minVersion,
      maxVersion,
      cert: clientCert ?? cert,
      key: clientKey ?? key,
      ...(ca === undefined ? {} : { ca }),
      ...(ciphers === undefined ? {} : { ciphers }),
      // A certificate that its owner made at start proves nothing; the secret of the members does.
      rejectUnauthorized: !auto,
      checkServerIdentity: (host, certificate) => this.#checkServer(host, certificate),
    };
  }

  /** Undefined: this caller may come in; else why not. */
  admit(socket: TLSSocket): Promise<string | undefined> {
    return certificateRefusal(socket, this.#settings, this.knowsCallers);
  }

  /** Calls back with new server options whenever the files have changed. */
  onChange(listener: (options: TlsOptions) => void): void {
    this.#listeners.push(listener);
  }

  close(): void {
    clearInterval(this.#timer);
  }

  #checkServer(host: string, certificate: PeerCertificate): Error | undefined {
    const error = checkServerIdentity(host, certificate);
    if (error !== undefined || isAllowed(certificate, this.#settings)) return error;
    return new Error(NOT_ALLOWED);
  }

  #look(): void {
    try {
      const stamp = stampOf(this.#settings);
      if (stamp === this.#stamp) return;
      const former = this.#material;
      this.#material = readMaterial(this.#settings);
      try {
        createSecureContext(this.serverOptions);
      } catch (error) {
        this.#material = former;
        throw error;
      }
      this.#stamp = stamp;
    } catch (error) {
      // Certificate and key are replaced one after the other: the next look may see both.
      this.#report("warn", "TLS files can't be read again; the former ones stay", { error });
      return;
    }
    for (const listener of this.#listeners) listener(this.serverOptions);
    this.#report("info", "TLS files were read again", { "cert-file": this.#settings.certFile });
  }
}

function readMaterial(settings: TlsSettings): Material {
  const { flagPrefix } = settings;
  const read = (flag: string, path: string | undefined): Buffer | undefined => {
    if (path === undefined) return undefined;
    try {
      return readFileSync(path);
    } catch (cause) {
      const reason = cause instanceof Error ? cause.message : String(cause);
      throw new Error(`--${flagPrefix}${flag} can't be read: ${reason}`, { cause });
    }
  };
  return {
    cert: read("cert-file", settings.certFile),
    key: read("key-file", settings.keyFile),
    clientCert: read("client-cert-file", settings.clientCertFile),
    clientKey: read("client-key-file", settings.clientKeyFile),
    ca: read("trusted-ca-file", settings.trustedCaFile),
  };
}

/** Changes when a file is replaced or written. */
function stampOf(settings: TlsSettings): string {
  const { certFile, keyFile, clientCertFile, clientKeyFile, trustedCaFile } = settings;
  return [certFile, keyFile, clientCertFile, clientKeyFile, trustedCaFile]
    .map((path) => {
      if (path === undefined) return "";
      const { ino, size, mtimeMs } = statSync(path);
      return `${ino} ${size} ${mtimeMs}`;
    })
    .join();
}
