// Run by mongosh after a restore, before workers and edges start: nobody of the time of the copy is connected any more.
// Whoever was online then goes offline the usual way, as soon as a presence worker runs; who is back by then stays.
const warren = db.getSiblingDB("warren");
warren.sessions.deleteMany({});
warren.edges.deleteMany({});
warren.users.updateMany({ online: true }, { $set: { offline_due: new Date() } });
print("Nobody is taken for connected any more.");
