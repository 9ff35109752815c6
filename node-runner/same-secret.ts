/** Whether what a caller shows is the secret: told in a time that depends on neither's content or length. */
import { createHash, timingSafeEqual } from "node:crypto";

export function sameSecret(shown: string, secret: string): boolean {
  const digest = (text: string): Buffer => createHash("sha256").update(text).digest();
  return timingSafeEqual(digest(shown), digest(secret));
}
