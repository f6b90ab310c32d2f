// Makes api.github.com.json and webhooks.json beside it, from the packages
// @octokit/openapi (23.0.2) and @octokit/webhooks-examples (7.6.1) of npm, both MIT:
//
//	npm pack @octokit/openapi@23.0.2 @octokit/webhooks-examples@7.6.1, and unpack both
//	node trim.mjs OPENAPI/generated/api.github.com.json EXAMPLES/api.github.com/index.json
import { readFileSync, writeFileSync } from 'node:fs';

const used = {
  '/user': ['get'], '/meta': ['get'],
  '/repos/{owner}/{repo}': ['get'],
  '/repos/{owner}/{repo}/branches': ['get'],
  '/repos/{owner}/{repo}/branches/{branch}': ['get'],
  '/repos/{owner}/{repo}/keys': ['get', 'post'],
  '/repos/{owner}/{repo}/keys/{key_id}': ['delete'],
  '/repos/{owner}/{repo}/hooks': ['get', 'post'],
  '/repos/{owner}/{repo}/hooks/{hook_id}': ['patch', 'delete'],
  '/repos/{owner}/{repo}/statuses/{sha}': ['post'],
  '/app/installations/{installation_id}/access_tokens': ['post'],
};
const all = JSON.parse(readFileSync(process.argv[2]));
const words = ['description', 'summary', 'externalDocs', 'example', 'examples', 'tags', 'x-github', 'x-octokit', 'x-githubEnterpriseCloudOnly'];
const strip = (v, named) => Array.isArray(v) ? v.map((x) => strip(x)) : v && typeof v === 'object'
  ? Object.fromEntries(Object.entries(v).filter(([k]) => named || !words.includes(k))
    .map(([k, x]) => [k, strip(x, k === 'properties' || k === 'schemas' || k === 'responses')])) : v;
const out = { openapi: all.openapi, info: { title: all.info.title, version: all.info.version, license: all.info.license }, paths: {}, components: {} };
const follow = (v) => {
  if (Array.isArray(v)) return v.forEach(follow);
  if (!v || typeof v !== 'object') return;
  if (typeof v.$ref === 'string') {
    const [, , kind, name] = v.$ref.split('/');
    out.components[kind] ??= {};
    if (!out.components[kind][name]) {
      out.components[kind][name] = strip(all.components[kind][name]);
      follow(out.components[kind][name]);
    }
  }
  Object.values(v).forEach(follow);
};
const described = (v) => { // what the format asks for
  if (v && typeof v === 'object') {
    for (const [k, x] of Object.entries(v)) {
      if (k === 'responses') Object.values(x).forEach((r) => { if (!r.$ref) r.description ??= ''; });
      described(x);
    }
  }
};
for (const [path, methods] of Object.entries(used)) {
  out.paths[path] = {};
  for (const m of methods) out.paths[path][m] = strip(all.paths[path][m]);
  follow(out.paths[path]);
}
described(out);
// As in the whole description, a look-up by id has the answer of one by name; it is where
// GitHub's own redirects and links lead, and stands in no description.
out.paths['/repositories/{repository_id}'] = { get: {
  operationId: 'repos/get-by-id', responses: out.paths['/repos/{owner}/{repo}'].get.responses,
  parameters: [{ name: 'repository_id', in: 'path', required: true, schema: { type: 'integer' } }],
} };
writeFileSync('api.github.com.json', JSON.stringify(out) + '\n');

// Every example of the events that are acted on, and one of each other, without what
// nothing looks at.
const keep = ['push', 'ping', 'create', 'delete', 'pull_request'];
const fewer = (v, depth) => v && typeof v === 'object' && !Array.isArray(v)
  ? Object.fromEntries(Object.entries(v).filter(([k]) => !/_url$|^(_links|commits|sender|organization|installation|user|owner|labels|assignees|requested_)/.test(k) || depth === 0 && k === 'ref')
    .map(([k, x]) => [k, fewer(x, depth + 1)])) : v;
const examples = [];
for (const e of JSON.parse(readFileSync(process.argv[3]))) {
  for (const body of keep.includes(e.name) ? e.examples : e.examples.slice(0, 1)) examples.push({ event: e.name, body: fewer(body, 0) });
}
writeFileSync('webhooks.json', examples.map((e) => JSON.stringify(e)).join('\n') + '\n');
