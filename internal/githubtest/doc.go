// Package githubtest is the tests' GitHub: one strict server in place of the real one.
// Each request and each answer is held against GitHub's published OpenAPI description
// (testdata/api.github.com.json, which testdata/trim.mjs makes from the npm package
// @octokit/openapi, under the licence beside it); what does not fit fails the test.
//
// It keeps real git repositories, serves them over HTTP and ssh, counts requests as
// GitHub's limits do, and sends webhooks. testdata/webhooks.json are GitHub's published
// examples of those (npm @octokit/webhooks-examples, MIT).
package githubtest
