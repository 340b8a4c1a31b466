/** The XML documents of S3, read as trees of texts. */
import sax from 'sax';

/** An element: its texts joined, and the elements in it by name. */
export interface XmlElement {
  readonly text: string;
  /** The first child of this name. */
  child(name: string): XmlElement | undefined;
  /** All of them, in order. */
  children(name: string): readonly XmlElement[];
}

class Element implements XmlElement {
  text = '';
  readonly below: (readonly [string, Element])[] = [];

  child(name: string): XmlElement | undefined {
    return this.below.find(([own]) => own === name)?.[1];
  }

  children(name: string): readonly XmlElement[] {
    return this.below.flatMap(([own, element]) => (own === name ? [element] : []));
  }
}

/** A document's root element with its name, or undefined where the text is no XML. Entities of its own are not read. */
export function parseXml(text: string): (XmlElement & { readonly name: string }) | undefined {
  const parser = sax.parser(true, { position: false });
  const top = new Element();
  const open = [top];
  let isBroken = false;
  parser.onopentag = ({ name }) => {
    const element = new Element();
    open.at(-1)!.below.push([name.replace(/^.*:/, ''), element]);
    open.push(element);
  };
  parser.onclosetag = () => void open.pop();
  const addText = (part: string): void => {
    open.at(-1)!.text += part;
  };
  parser.ontext = addText;
  parser.oncdata = addText;
  parser.onerror = () => {
    isBroken = true;
    parser.resume();
  };
  parser.write(text).close();
  const [root] = top.below;
  if (isBroken || !root) return undefined;
  return Object.assign(root[1], { name: root[0] });
}
