// mongosh runs it at every start: creates the replica set and Warren's user if they do not exist.
const fs = require("fs");
const secret = (name) => fs.readFileSync(`/run/warren/mongodb/${name}`, "utf8").trim();

const admin = db.getSiblingDB("admin");
admin.auth("root", secret("root-password"));

try {
  rs.status();
} catch (error) {
  if (error.codeName !== "NotYetInitialized") throw error;
  rs.initiate({ _id: "warren", members: [{ _id: 0, host: "mongodb:27017" }] });
}

const deadline = Date.now() + 60_000;
while (!admin.hello().isWritablePrimary) {
  if (Date.now() > deadline) throw new Error("The replica set has no primary after 60 s.");
  sleep(200);
}

// The least rights: its own database only.
const user = { pwd: secret("user-password"), roles: [{ role: "readWrite", db: "warren" }] };
if (admin.getUser("warren")) admin.updateUser("warren", user);
else admin.createUser({ user: "warren", ...user });

print("MongoDB is ready.");
