// What the page knows: the snapshot, and every delta merged into it.

/** The page's knowledge, kept up to date over one stream; calls `changed` after every piece of news. */
export class Store {
  constructor(changed) {
    this.changed = changed;
    this.models = Object.create(null); // a model may have any name, also __proto__
    this.letters = { reasons: {}, newest: [] };
    this.alive = { caught_up: false, trouble: "", last_message: null };
    this.connected = false;
    this.clockAhead = 0;
    /** The model that is known whole; of the others only the status is. Empty before there is any. */
    this.model = "";
    this.moreModels = 0;
    this.turn = 0;
  }

  /** Know another model whole; resolves when it is. */
  choose(model) {
    this.model = model;
    return this.start();
  }

  /** Load what there is, then follow; tries again for ever while the server is away. */
  async start() {
    const turn = (this.turn += 1); // a newer start makes this one void
    this.stream?.close();
    try {
      const answer = await fetch(`api/v1/snapshot?model=${encodeURIComponent(this.model)}`);
      if (!answer.ok) throw new Error(`the server answered ${answer.status}`);
      const snapshot = await answer.json();
      if (turn !== this.turn) return;
      this.model = snapshot.model ?? "";
      this.models = Object.create(null);
      this.about = { kafka: snapshot.kafka, thresholds: snapshot.thresholds, rows: snapshot.window_rows };
      this.merge(snapshot);
      this.follow(snapshot.id);
    } catch {
      this.lost();
      setTimeout(() => { if (turn === this.turn) this.start(); }, 1000);
    }
  }

  follow(id) {
    const stream = this.stream = new EventSource(`api/v1/stream?after=${encodeURIComponent(id)}&model=${encodeURIComponent(this.model)}`);
    stream.onopen = () => { this.connected = true; this.changed(); };
    stream.onerror = () => {
      this.lost();
      if (stream.readyState === EventSource.CLOSED) setTimeout(() => { if (stream === this.stream) this.start(); }, 1000);
    };
    stream.addEventListener("reset", () => { stream.close(); this.start(); });
    stream.onmessage = (message) => { this.connected = true; this.heard(JSON.parse(message.data)); };
  }

  /** Merge news; those of another model than the one that is known whole (it is gone, or was the first) begin anew. */
  heard(news) {
    this.model ||= news.model ?? "";
    if (news.model === undefined || news.model === null || news.model === this.model) this.merge(news);
    else this.start();
  }

  lost() {
    this.connected = false;
    this.changed();
  }

  merge(news) {
    for (const [name, { parts, added, whole }] of Object.entries(news.models)) {
      const model = (this.models[name] ??= { windows: [], points: [], estimates: [], looks: [], marks: [], traffic: [], crowns: [], log: [], alerts: [] });
      Object.assign(model, parts);
      for (const series of whole ?? []) model[series] = []; // something came late and belongs among them
      for (const [series, items] of Object.entries(added)) {
        model[series].push(...items);
        const most = model.limits?.[series] ?? 500;
        if (model[series].length > most) model[series].splice(0, model[series].length - most);
      }
    }
    if (news.letters) this.letters = news.letters;
    this.moreModels = news.more_models ?? this.moreModels;
    this.alive = { caught_up: news.caught_up, trouble: news.trouble, last_message: news.last_message, agents: news.agents };
    this.clockAhead = news.now - Date.now();
    this.changed();
  }

  /** Seconds since the newest message was written to Kafka. */
  get lag() {
    const { last_message: last } = this.alive;
    return last === null ? null : Math.max(0, (Date.now() + this.clockAhead - last) / 1000);
  }
}
