/** The API's document: whole, made of the routes, and one with what the app serves. */
import { expect, test } from "vitest";
import { createApp } from "../../../worker/app.ts";
import { openApi } from "../../../worker/openapi.ts";
import { ROUTES } from "../../../worker/routes.ts";

test("is served, and names every route once with its parameters and answers", async () => {
  const env = { QUORATE_PEERS: "http://127.0.0.1:9" };
  const answer = await createApp().fetch(new Request("http://127.0.0.1/openapi.json"), env);
  expect(answer.status).toBe(200);
  expect(answer.headers.get("content-type")).toContain("application/json");
  expect(await answer.json()).toEqual(JSON.parse(JSON.stringify(openApi())));
  const operations = Object.entries(openApi().paths).flatMap(([path, methods]) =>
    Object.keys(methods).map((method) => `${method} ${path}`),
  );
  expect(operations.toSorted()).toEqual(
    ROUTES.map(({ method, path }) => `${method} ${path}`).toSorted(),
  );
});

test("is OpenAPI 3.1 in what its readers need", () => {
  expect(openApi().openapi).toBe("3.1.0");
  for (const [path, methods] of Object.entries(openApi().paths)) {
    for (const operation of Object.values(methods)) {
      const { parameters, responses } = operation as unknown as {
        parameters: { name: string; in: string; required?: boolean; schema: object }[];
        responses: Record<string, { description: string }>;
      };
      const names = parameters.map((each) => `${each.in} ${each.name}`);
      expect(new Set(names).size).toBe(names.length);
      const inPath = [...path.matchAll(/\{(\w+)\}/g)].map(([, name]) => `path ${name}`);
      expect(names.filter((name) => name.startsWith("path "))).toEqual(inPath);
      for (const { schema } of parameters) expect(schema).toBeDefined();
      for (const { description } of Object.values(responses)) expect(description).not.toBe("");
    }
  }
});

test("a parameter that a route's description doesn't name is refused by the route", async () => {
  const env = { QUORATE_PEERS: "http://127.0.0.1:9" };
  for (const route of ROUTES.filter(({ path }) => path !== "/healthz")) {
    const path = route.path.replace("{id}", "5").replace("{key}", "k");
    const body = route.method === "post" ? { body: "{}" } : {};
    const init = { method: route.method.toUpperCase(), ...body };
    const request = new Request(`http://127.0.0.1${path}?no-such=1`, init);
    const answer = await createApp().fetch(request, env);
    expect([route.method, path, answer.status]).toEqual([route.method, path, 400]);
  }
});

test("a path with another method is a 405 that names those it has", async () => {
  const env = { QUORATE_PEERS: "http://127.0.0.1:9" };
  for (const [path, methods] of Object.entries(openApi().paths)) {
    const url = `http://127.0.0.1${path.replace("{id}", "5").replace("{key}", "a%2Fb")}`;
    const answer = await createApp().fetch(new Request(url, { method: "PATCH" }), env);
    expect([path, answer.status]).toEqual([path, 405]);
    const allowed = (answer.headers.get("allow") ?? "").split(", ");
    const named = Object.keys(methods).map((method) => method.toUpperCase());
    const heads = named.includes("GET") ? ["HEAD"] : [];
    expect(allowed.toSorted()).toEqual([...named, ...heads].toSorted());
  }
  const elsewhere = new Request("http://127.0.0.1/nothing", { method: "PATCH" });
  expect((await createApp().fetch(elsewhere, env)).status).toBe(404);
});
