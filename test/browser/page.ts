/** What the test's pages load: the client and the presence example, as globals. */
import * as quorate from "../../shared/client/index.ts";
import { joinRoom } from "../examples/presence.ts";

Object.assign(globalThis, { quorate, joinRoom, loaded: true });
