// A certified OpenID Connect provider for the tests: panva's oidc-provider, as a process.
//
//   node server.mjs <folder of node_modules> <port> <settings.json>
//
// Whoever types a name and any password is that account; what is claimed of it stands in the
// settings, which are read anew each time. Nobody is asked for consent.
import { readFileSync } from "node:fs"
import { pathToFileURL } from "node:url"

const [modules, port, settingsFile] = process.argv.slice(2)
const { Provider } = await import(pathToFileURL(`${modules}/oidc-provider/lib/index.js`))
const settings = () => JSON.parse(readFileSync(settingsFile, "utf8"))
const issuer = `http://localhost:${port}`

const provider = new Provider(issuer, {
  clients: settings().clients,
  claims: {
    openid: ["sub"],
    email: ["email", "email_verified"],
    profile: ["name", "preferred_username"],
    groups: ["groups"],
  },
  scopes: ["openid", "offline_access"],
  features: {
    backchannelLogout: { enabled: true },
    devInteractions: { enabled: true },
    rpInitiatedLogout: { enabled: true },
  },
  pkce: { required: () => true },
  cookies: { keys: ["only for tests"] },
  ttl: { Interaction: 600, Session: 3600, Grant: 3600, AccessToken: 600, IdToken: 600 },
  // It calls nobody on its own machine, where the portal of the tests is, unless it is told to.
  fetch: (url, { dispatcher, ...options }) => fetch(url, options),
  async findAccount(_, id) {
    return {
      accountId: id,
      claims: () => ({
        sub: id,
        name: id[0].toUpperCase() + id.slice(1),
        preferred_username: id,
        email: `${id}@corp.example`,
        email_verified: true,
        groups: [],
        ...settings().accounts?.[id],
      }),
    }
  },
  async loadExistingGrant({ oidc }) {
    const grant = new provider.Grant({
      clientId: oidc.client.clientId,
      accountId: oidc.session.accountId,
    })
    grant.addOIDCScope("openid profile email groups")
    await grant.save()
    return grant
  },
})
for (const name of ["server_error", "backchannel.error"]) {
  provider.on(name, (...about) => console.error(name, about.find(one => one instanceof Error)))
}
const server = provider.listen(Number(port), "localhost", () => console.log(`ready at ${issuer}`))
process.on("SIGTERM", () => {
  server.close(() => process.exit(0))
  server.closeAllConnections()
})
