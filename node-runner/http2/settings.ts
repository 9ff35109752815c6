/**
 * Reads a SETTINGS frame (RFC 9113 section 6.5). Settings that don't concern a server's sending
 * are only checked.
 */
import { ERROR, SETTING, WINDOW_MAX, readUint32 } from "./protocol.ts";

export interface ClientSettings {
  /** `ERROR.none`, or why the connection is lost. */
  error: number;
  initialWindow: number | undefined;
  /**
   * The smallest table size in the frame: an encoder must pass through it (RFC 7541 section 4.2).
   */
  headerTableBytesMin: number | undefined;
}

const FRAME_BYTES_MIN = 16_384;
const FRAME_BYTES_MAX = 0xff_ffff;

export function readSettings(source: Buffer, start: number, end: number): ClientSettings {
  const settings: ClientSettings = {
    error: (end - start) % 6 === 0 ? ERROR.none : ERROR.frameSize,
    initialWindow: undefined,
    headerTableBytesMin: undefined,
  };
  for (let at = start; at + 6 <= end && settings.error === ERROR.none; at += 6) {
    const id = ((source[at] as number) << 8) | (source[at + 1] as number);
    applySetting(settings, id, readUint32(source, at + 2));
  }
  return settings;
}

function applySetting(settings: ClientSettings, id: number, value: number): void {
  switch (id) {
    case SETTING.headerTableSize:
      settings.headerTableBytesMin = Math.min(settings.headerTableBytesMin ?? value, value);
      return;
    case SETTING.enablePush:
      if (value > 1) settings.error = ERROR.protocol;
      return;
    case SETTING.initialWindowSize:
      if (value > WINDOW_MAX) settings.error = ERROR.flowControl;
      settings.initialWindow = value;
      return;
    case SETTING.maxFrameSize:
      if (value < FRAME_BYTES_MIN || value > FRAME_BYTES_MAX) settings.error = ERROR.protocol;
      return;
    default:
    // Unknown settings are ignored.
  }
}
