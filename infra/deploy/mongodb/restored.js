// mongosh runs it after a restore, before workers and edges start: no session of the backup exists any more. Users who
// were online in the backup go offline as soon as a presence worker runs, unless they have connected again.
const warren = db.getSiblingDB("warren");
warren.sessions.deleteMany({});
warren.edges.deleteMany({});
warren.users.updateMany({ online: true }, { $set: { offline_due: new Date(), schedule_id: "restore" } });
print("All sessions of the backup are deleted.");
